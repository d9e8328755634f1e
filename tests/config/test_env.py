from pathlib import Path

import pytest

from config import env
from config.variables import KNOWN, number, path, secret, switch, text


@pytest.fixture(autouse=True)
def _declared(monkeypatch) -> None:
    """Variables of these tests' own."""
    own = [
        text("MAIL", ""),
        text("PLAIN", "", "none"),
        number("COUNT", "", 3, at_most=9),
        path("PLACE", ""),
        secret("SECRET", "", at_least=20),
        switch("SWITCH", "", True),
    ]
    for one in own:
        monkeypatch.setitem(KNOWN, one.name, one)


def test_what_is_not_declared_is_not_read(monkeypatch) -> None:
    monkeypatch.setenv("STORYLOOP_NEW", "1")
    with pytest.raises(LookupError, match="STORYLOOP_NEW is not declared: say in config/variables.py"):
        env.text("STORYLOOP_NEW", "")


@pytest.mark.parametrize(("said", "meant"), [("true", True), ("0", False), ("No", False), (" ON ", True), ("", True)])
def test_a_boolean_is_read_as_people_write_it(monkeypatch, said: str, meant: bool) -> None:
    monkeypatch.setenv("SWITCH", said)
    assert env.boolean("SWITCH") is meant


def test_a_boolean_that_is_none_is_refused_by_name(monkeypatch) -> None:
    monkeypatch.setenv("SWITCH", "maybe")
    with pytest.raises(env.BadEnvironment, match="SWITCH is 'maybe'"):
        env.boolean("SWITCH")


@pytest.mark.parametrize("said", ["four", "-1", "2.5", "10"])
def test_a_number_that_is_none_or_too_small_or_large_is_refused(monkeypatch, said: str) -> None:
    monkeypatch.setenv("COUNT", said)
    with pytest.raises(env.BadEnvironment, match="COUNT"):
        env.integer("COUNT")


def test_an_empty_variable_means_the_default(monkeypatch) -> None:
    monkeypatch.setenv("COUNT", "")
    assert env.integer("COUNT") == 3


def test_a_path_is_followed_to_its_end_and_a_location_is_not(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    monkeypatch.setenv("PLACE", str(tmp_path / "link"))
    assert env.path("PLACE", Path()) == tmp_path / "there"
    assert env.location("PLACE", Path()) == tmp_path / "link"


def test_a_location_is_absolute_and_knows_home(monkeypatch) -> None:
    monkeypatch.setenv("PLACE", "~/python")
    assert env.location("PLACE", Path()) == Path.home() / "python"
    monkeypatch.setenv("PLACE", "here")
    assert env.location("PLACE", Path()) == Path.cwd() / "here"


@pytest.mark.parametrize("url", ["http://127.0.0.1:8100", "https://writer.example/", "http://[::1]:8100"])
def test_a_servers_address_is_a_host_and_a_port(url: str) -> None:
    env.server("STORYLOOP_VLLM_URLS", url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:8100", "say it like http://127.0.0.1:8100"),
        ("http://h:99999", "say it like"),
        ("http://[bad", "say it like"),
        ("file:///etc/passwd", "say it like"),
        ("http://name:secret@h:1", "set STORYLOOP_VLLM_API_KEY instead"),
        ("http://h:1/v1", "leave out what comes after host and port"),
    ],
)
def test_what_is_none_is_refused_at_the_start(url: str, said: str) -> None:
    with pytest.raises(env.BadEnvironment, match=said):
        env.server("STORYLOOP_VLLM_URLS", url)


@pytest.mark.parametrize(
    ("said", "host", "port", "starttls", "tls"),
    [
        ("smtp+tls://me%40x:p%3Aw@mail.example.org", "mail.example.org", 587, True, False),
        ("smtps://me%40x:p%3Aw@mail.example.org", "mail.example.org", 465, False, True),
        ("smtp://me%40x:p%3Aw@localhost:2525", "localhost", 2525, False, False),
    ],
)
def test_a_mail_server_is_one_address(monkeypatch, said: str, host: str, port: int, starttls: bool, tls: bool) -> None:
    monkeypatch.setenv("MAIL", said)
    assert env.mail("MAIL") == {
        "EMAIL_HOST": host, "EMAIL_PORT": port, "EMAIL_HOST_USER": "me@x", "EMAIL_HOST_PASSWORD": "p:w",
        "EMAIL_USE_TLS": starttls, "EMAIL_USE_SSL": tls,
    }  # fmt: skip


@pytest.mark.parametrize("said", ["mail.example.org", "http://me:secret@x", "smtp://", "smtp://me:secret@x:port"])
def test_no_mail_server_is_refused_without_telling_its_password(monkeypatch, said: str) -> None:
    monkeypatch.setenv("MAIL", said)
    with pytest.raises(env.BadEnvironment, match="MAIL cannot be read") as refused:
        env.mail("MAIL")
    assert "secret" not in str(refused.value)


def test_without_a_mail_server_there_are_no_settings(monkeypatch) -> None:
    monkeypatch.delenv("MAIL", raising=False)
    assert env.mail("MAIL") == {}


@pytest.mark.parametrize("said", ["stories.example.org", "ftp://x", "https://x/?a=1"])
def test_a_site_that_no_path_can_follow_is_refused(said: str) -> None:
    with pytest.raises(env.BadEnvironment, match="SITE"):
        env.site("SITE", said)


def test_a_secret_may_stand_in_a_file(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of many characters\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLAIN_FILE", "secret")
    assert env.text("PLAIN") == "of many characters"
    monkeypatch.chdir("/")  # where a process runs that we have started
    assert env.text("PLAIN") == "of many characters"
    monkeypatch.setenv("PLAIN", "another")
    with pytest.raises(env.BadEnvironment, match="PLAIN and PLAIN_FILE are both set"):
        env.text("PLAIN")


def test_a_file_that_is_not_there_is_no_empty_secret(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET_FILE", str(tmp_path / "gone"))
    with pytest.raises(env.BadEnvironment, match="SECRET_FILE is .* cannot be read"):
        env.secret("SECRET")


def test_a_secret_that_is_short_is_refused_without_telling_it(monkeypatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    with pytest.raises(env.BadEnvironment, match="SECRET is too short: give 20") as refused:
        env.secret("SECRET")
    assert "hunter2" not in str(refused.value)
