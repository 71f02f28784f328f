"""Networks from and to TFLite, float and int8."""
