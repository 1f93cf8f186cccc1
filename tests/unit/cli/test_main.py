"""The command line: exit codes, one line for each mistake, no secrets, no tracebacks."""

from __future__ import annotations

import asyncio
import os
import socket
import tomllib
from pathlib import Path

import pytest

from bridge import __version__
from bridge.api.tokens import hash_of
from bridge.cli.main import main
from bridge.cli.serve import explain_bind_error
from bridge.cli.toml import masked_toml
from bridge.config import SECTIONS, load
from bridge.masking import MASK

ENV = {
    "ASTERISK_BRIDGE_ARI__USER": "bridge",
    "ASTERISK_BRIDGE_ARI__PASSWORD": "a secret word",
    "ASTERISK_BRIDGE_HTTP__TOKENS": "first-token-of-16,second-token-of-16",
}


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"], {})
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"asterisk-bridge {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["fly"], ["serve", "--confg", "x"], ["check", "extra"]])
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments, ENV)
    assert caught.value.code == 2
    assert "usage: asterisk-bridge" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "check", "doctor"])
def test_each_mistake_is_one_line_and_the_exit_code_is_2(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text('[http]\nport = "x"\n[log]\nlevle = "info"\n')
    assert main([command, "--config", str(path)], ENV) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("asterisk-bridge: ") for line in lines)
    assert "http.port" in captured.err
    assert "did you mean log.level?" in captured.err


def test_mistakes_of_all_tables_are_reported_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(
        '[[subscriptions]]\nid = "a"\nextensions = ["1"]\nurl = "ws://x.example"\ndialect = "klingon"\n'
        '[[dialplan]]\nid = "b"\nmatch = "7"\nurl = "ws://x.example"\ndialect = "voxology"\nsample_rate = 16000\n'
        '[[flows]]\nid = "c"\nmatch = ["7"]\nactions = [{type = "amd"}]\n'
    )
    assert main(["check", "--config", str(path)], ENV) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [
        *("subscriptions.0.dialect", "dialplan.0.sample_rate", "flows.0"),
    ]


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(tmp_path / "no.toml")], ENV) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err


def test_check_prints_what_is_in_effect_without_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text('[http]\nport = 1234\n[audiosocket]\nadvertised_host = "pbx-lan"\n')
    assert main(["check", "--config", str(path)], ENV) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    shown = tomllib.loads(captured.out)
    assert shown["http"]["port"] == 1234
    assert shown["http"]["tokens"] == [MASK, MASK]
    assert shown["audiosocket"]["advertised_host"] == "pbx-lan"
    assert shown["ari"]["password"] == MASK
    assert "secret word" not in captured.out
    assert "token-of" not in captured.out


def test_secrets_within_actions_are_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(
        '[[flows]]\nid = "f"\nmatch = ["1"]\n[[flows.actions]]\ntype = "external_media_start"\n'
        'option = {url = "wss://app.example/?t=hush", auth_value = "hush"}\n'
    )
    assert main(["check", "--config", str(path)], ENV) == 0
    out = capsys.readouterr().out
    assert "hush" not in out
    (flow,) = tomllib.loads(out)["flows"]
    assert flow["actions"][0]["option"] == {"url": f"wss://app.example/?t={MASK}", "auth_value": MASK}


def test_the_table_of_a_model_is_shown_as_a_table_without_its_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(
        '[[dialplan]]\nid = "r"\nmatch = "800"\nurl = "wss://model.example/v1"\ndialect = "openai_realtime"\n'
        '[dialplan.agent]\ninstructions = """Be "brief".\nBe kind."""\ntools = ["hang_up"]\n'
        'settings_url = "https://shop.example/call?key=hush"\nsettings_secret = "hush-hush-hush-hush"\n'
        'parameters = {headers = {authorization = "hush"}}\n'
        '[[dialplan]]\nid = "s"\nmatch = "801"\nurl = "wss://app.example"\ndialect = "twilio"\n'
        'extra_headers = {X-Api-Key = "hush"}\n'
    )
    assert main(["check", "--config", str(path)], ENV) == 0
    out = capsys.readouterr().out
    assert "hush" not in out
    route, other = tomllib.loads(out)["dialplan"]
    assert "agent" not in other
    assert other["extra_headers"] == {"X-Api-Key": MASK}
    agent = route["agent"]
    assert (agent["instructions"], agent["tools"]) == ('Be "brief".\nBe kind.', ["hang_up"])
    assert agent["settings_url"] == f"https://shop.example/call?key={MASK}"
    assert agent["parameters"] == {"headers": {"authorization": MASK}}


def test_every_key_is_shown() -> None:
    shown = tomllib.loads(masked_toml(load(None, ENV)))
    assert {section: set(keys) for section, keys in shown.items()} == {
        section: set(model.model_fields) for section, model in SECTIONS.items()
    }


def test_what_is_shown_can_be_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(masked_toml(load(None, ENV)).replace(MASK, "abcdefgh" * 2))
    again = load(path, {})
    assert again.media == load(None, ENV).media


@pytest.mark.parametrize("section", ["http", "audiosocket"])
async def test_a_port_that_is_taken_is_named_with_its_key(section: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        key = "PORT" if section == "http" else "BIND_PORT"
        config = load(None, ENV | {f"ASTERISK_BRIDGE_{section.upper()}__{key}": str(port)})
        with pytest.raises(OSError, match="address already in use") as caught:
            await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", port)
    text = explain_bind_error(caught.value, config)
    assert text.startswith(f"{section}.{key.lower()}: 127.0.0.1:{port} is already in use")


async def test_an_address_of_another_machine_is_named_with_its_key() -> None:
    config = load(None, ENV | {"ASTERISK_BRIDGE_HTTP__HOST": "192.0.2.1", "ASTERISK_BRIDGE_HTTP__PORT": "0"})
    with pytest.raises(OSError, match="192") as caught:
        await asyncio.get_running_loop().create_server(asyncio.Protocol, "192.0.2.1", 0)
    assert explain_bind_error(caught.value, config) == "http.host: '192.0.2.1' is not an address of this machine"


def test_what_a_dialect_refuses_is_a_mistake_in_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bridge.toml"
    table = '[[subscriptions]]\nid = "a"\nurl = "ws://app.example"\nextensions = ["*"]\nauth_value = "confidential"\n'
    path.write_text(table + 'dialect = "yeastar"\noptions = {rate = 11025}\n')
    assert main(["check", "--config", str(path)], ENV) == 2
    assert "subscriptions.0.options: rate must be" in capsys.readouterr().err
    path.write_text(table + 'dialect = "yeastar"\noptions = {rate = 16000}\n')
    assert main(["check", "--config", str(path)], ENV) == 0
    shown = tomllib.loads(capsys.readouterr().out)["subscriptions"]
    assert [(each["id"], each["options"], each["auth_value"]) for each in shown] == [("a", {"rate": 16000}, MASK)]


def test_a_token_is_created(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["token", "create", "--id", "crm", "--scope", "calls:read", "--scope", "events", "--extensions", "10*"]
    assert main([*command, "--expires", "2027-12-31T00:00:00Z", "--max-calls", "3"], {}) == 0
    printed = capsys.readouterr().out
    token = printed.splitlines()[1].removeprefix("# ")
    path = tmp_path / "bridge.toml"
    path.write_text(printed)
    (table,) = load(path, ENV).tokens
    assert (table.id, table.scopes, table.extensions, table.max_calls) == ("crm", ("calls:read", "events"), ("10*",), 3)
    assert table.hash == f"sha256:{hash_of(token)}"
    assert table.expires is not None
    assert table.expires.year == 2027
    assert len(token) == 43
    assert main([*command], {}) == 0
    assert token not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--id", "C R M", "--scope", "events"], "id"),
        (["--id", "local", "--scope", "events"], "local"),
        (["--id", "crm", "--scope", "events", "--expires", "tomorrow"], "expires"),
        (["--id", "crm", "--scope", "admin", "--trunks", "*"], "admin"),
    ],
)
def test_a_token_that_could_not_be_configured(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", "create", *arguments], {}) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert word in captured.err
    assert "Traceback" not in captured.err


def test_check_warns_of_credentials_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fifo, empty = tmp_path / "fifo", tmp_path / "empty"
    os.mkfifo(fifo)
    empty.touch()
    model = 'url = "wss://model.example/v1"\ndialect = "openai_realtime"\n[dialplan.agent]\n'
    path = tmp_path / "bridge.toml"
    path.write_text(
        f'[[dialplan]]\nid = "a"\nmatch = "1"\n{model}key_file = "{tmp_path}/none"\n'
        f'[[dialplan]]\nid = "b"\nmatch = "2"\n{model}key_file = "{empty}"\n'
        f'[[dialplan]]\nid = "c"\nmatch = "3"\n{model}key_file = "{fifo}"\n'
        f'[[dialplan]]\nid = "d"\nmatch = "4"\n{model}key_env = "NO_SUCH_KEY"\n'
        f'[[dialplan]]\nid = "e"\nmatch = "5"\nurl = "wss://app.example"\ndialect = "twilio"\n'
        f'auth_value_file = "{tmp_path}/none"\n'
    )
    assert main(["check", "--config", str(path)], ENV) == 0
    warned = [line.partition("warning: ")[2] for line in capsys.readouterr().err.splitlines() if "dialplan" in line]
    assert warned == [
        f"dialplan.0: agent.key_file: '{tmp_path}/none': No such file or directory",
        f"dialplan.1: agent.key_file: '{empty}': is empty",
        f"dialplan.2: agent.key_file: '{fifo}': not a regular file",
        "dialplan.3: the environment variable NO_SUCH_KEY of agent.key_env is not set",
        f"dialplan.4: auth_value_file: '{tmp_path}/none': No such file or directory",
    ]


def test_check_warns_of_what_has_no_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(
        '[[dialplan]]\nid = "a"\nmatch = "1"\nurl = "wss://model.example/v1"\ndialect = "openai_realtime"\n'
        '[dialplan.agent]\ntools = ["transfer", "hang_up", "set_variable", "conference"]\nconferences = ["sales"]\n'
        '[[dialplan]]\nid = "b"\nmatch = "2"\ntwiml_url = "https://agent.example/voice"\n'
    )
    assert main(["check", "--config", str(path)], ENV) == 0
    warned = [line.partition("warning: ")[2] for line in capsys.readouterr().err.splitlines() if "dialplan" in line]
    assert warned == [
        "dialplan.0.agent.tools: transfer is always refused, as transfer_to is empty",
        "dialplan.0.agent.tools: set_variable is always refused, as set_variables is empty",
        "dialplan.1.twiml_url: requests are not signed, and most agents refuse them; "
        "set twilio.account_sid and twilio.auth_token",
    ]


def test_check_warns_of_prompts_of_models_that_cannot_be_spoken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(
        '[speech]\ncommand = ["no-such-program"]\n'
        '[[dialplan]]\nid = "a"\nmatch = "1"\nurl = "wss://model.example/v1"\ndialect = "openai_realtime"\n'
        '[dialplan.agent]\nfailure_prompt = "Nobody is available."\nreconnect_prompt = "tone"\n'
        'tools = ["transfer"]\ntransfer_to = ["1002"]\n'
        '[[tools]]\nid = "o"\ndescription = "x"\nurl = "https://x.example"\nsecret = "change-me-change-me"\n'
        'filler = "One moment."\n'
    )
    assert main(["check", "--config", str(path)], ENV) == 0
    err = capsys.readouterr().err
    assert "warning: dialplan.0.agent.failure_prompt: speech is unavailable: " in err
    assert "warning: dialplan.0.agent.transfer_prompt: speech is unavailable: " in err
    assert "warning: tools.0.filler: speech is unavailable: " in err
    assert "reconnect_prompt" not in err


def test_the_key_of_an_inner_table_is_sent_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(
        '[[dialplan]]\nid = "a"\nmatch = "1"\nurl = "wss://model.example/v1"\ndialect = "openai_realtime"\n'
        'instructions = "Be brief."\n'
    )
    assert main(["check", "--config", str(path)], ENV) == 2
    assert "dialplan.0.instructions: unknown key; it is a key of the table agent\n" in capsys.readouterr().err


def test_check_warns_of_what_this_machine_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    not_a_folder = tmp_path / "file"
    not_a_folder.touch()
    path = tmp_path / "bridge.toml"
    path.write_text(
        f'[streams]\nstate_file = "{not_a_folder}/state.sqlite3"\n[speech]\ncommand = ["no-such-program"]\n'
        '[privacy]\nannounce_streams = "You are being recorded."\nannounce_recordings = "tone"\n'
        '[[flows]]\nid = "f"\nmatch = ["7"]\nactions = [{type = "talk", option = {text = "hello"}}]\n'
    )
    assert main(["check", "--config", str(path)], ENV) == 0
    captured = capsys.readouterr()
    tomllib.loads(captured.out)
    state, announcement, speech = captured.err.splitlines()
    assert "privacy.announce_streams: speech is unavailable" in announcement
    assert state.startswith("asterisk-bridge: warning: streams.state_file: ")
    assert "is not a directory" in state
    assert speech.startswith("asterisk-bridge: warning: flows.0: speech is unavailable: ")
    assert "no-such-program" in speech
