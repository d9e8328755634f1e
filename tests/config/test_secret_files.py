from pathlib import Path

from config.secret_files import kept_secret


def test_a_secret_is_made_once_and_read_by_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "var" / "secret"
    assert kept_secret(path, lambda: "one") == kept_secret(path, lambda: "two") == "one"
    assert path.stat().st_mode & 0o077 == 0


def test_an_empty_file_that_a_full_disk_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    assert kept_secret(tmp_path / "secret", lambda: "made") == "made"


def test_nothing_else_is_left_in_the_folder(tmp_path: Path) -> None:
    kept_secret(tmp_path / "secret", lambda: "made")
    assert [p.name for p in tmp_path.iterdir()] == ["secret"]


def test_another_process_that_is_quicker_wins(tmp_path: Path) -> None:
    def quicker() -> str:
        (tmp_path / "secret").write_text("theirs")
        return "ours"

    assert kept_secret(tmp_path / "secret", quicker) == "theirs"
