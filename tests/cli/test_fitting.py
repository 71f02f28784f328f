import pytest

from chipfit.cli.output import fitting


def test_a_fit_that_was_not_asked_for_is_announced_once_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    steps = fitting("my-chip")
    assert capsys.readouterr().err == ""
    assert list(steps([1, 2])) == [1, 2]
    assert list(steps([])) == []
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("my-chip comes without an estimator") == 1
    assert "chipfit profile my-chip" in shown.err
