import pytest

from training.templatetags.figures import percent, plain


@pytest.mark.parametrize(("number", "written"), [(8e-05, "0.00008"), (0.001, "0.001"), (1.0, "1"), (1e-6, "0.000001")])
def test_a_small_number_is_written_as_people_read_it(number: float, written: str) -> None:
    assert plain(number) == written


def test_a_share_is_written_as_a_percentage() -> None:
    assert percent(0.7849) == "78.5 %"
