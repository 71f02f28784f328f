"""What people see: tables for the terminal and one page of HTML."""
