"""Every mistake in the configuration is refused with its key and a reason that helps."""

from __future__ import annotations

import socket
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from bridge.config import (
    SECTIONS,
    TABLES,
    AriConfig,
    ClusterConfig,
    Config,
    ConfigErrors,
    each_error,
    is_loopback,
    load,
)
from bridge.errors import ConfigError

ARI = '[ari]\nuser = "bridge"\npassword = "a secret word"\n'
TOKEN = "0123456789abcdef0123"
HASH = "sha256:" + "0a" * 32
ENV = {"ASTERISK_BRIDGE_ARI__USER": "bridge", "ASTERISK_BRIDGE_ARI__PASSWORD": "a secret word"}


def write(folder: Path, text: str) -> Path:
    path = folder / "asterisk-bridge.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_only_the_ari_user_and_password_have_no_default(tmp_path: Path) -> None:
    config = load(write(tmp_path, ARI), {})
    assert config == load(None, ENV)
    assert (config.http.host, config.http.port, config.http.tokens) == ("127.0.0.1", 8080, ())
    assert (config.audiosocket.bind_host, config.audiosocket.bind_port) == ("127.0.0.1", 9092)
    assert config.ari.app == "bridge"
    assert config.media.max_queued_ms == 600_000


def test_all_keys_can_be_set_in_the_file(tmp_path: Path) -> None:
    config = load(
        write(
            tmp_path,
            f"""
            [http]
            host = "0.0.0.0"
            port = 0
            tokens = ["{TOKEN}", "another-token-of-someone="]
            max_message_bytes = 2048
            [audiosocket]
            bind_host = "::"
            bind_port = 9999
            advertised_host = "bridge.example.org"
            advertised_port = 19092
            handshake_timeout_s = 2
            [ari]
            url = "https://pbx.example.org:8089/prefix/"
            user = "u"
            password = "p"
            app = "my_app2"
            [media]
            max_queued_ms = 1000
            max_unsent_ms = 500
            max_streams = 7
            ping_interval_s = 2.5
            [log]
            level = "debug"
            format = "json"
            """,
        ),
        {},
    )
    assert [token.get_secret_value() for token in config.http.tokens] == [TOKEN, "another-token-of-someone="]
    assert config.audiosocket.advertised_address(9999) == "bridge.example.org:19092"
    assert config.ari.url == "https://pbx.example.org:8089/prefix"
    assert config.media.ping_interval_s == 2.5
    assert config.log.format == "json"


# What is in the file (besides a good [ari] section), the key that the error names, and words of its reason.
MISTAKES = [
    ('[http]\nport = "8080x"', "http.port", ["port number from 0 to 65535", '"8080x"']),
    ('[http]\nport = "8080"', "http.port", ["port number", '"8080"']),
    ("[http]\nport = true", "http.port", ["port number", "true"]),
    ("[http]\nport = 65536", "http.port", ["65535", "65536"]),
    ("[http]\nport = -1", "http.port", ["-1"]),
    ("[http]\nport = 80.0", "http.port", ["port number", "80.0"]),
    ("[http]\nport = [8080]", "http.port", ["list"]),
    ("[http]\nprot = 8080", "http.prot", ["unknown key", "http.port"]),
    ("[http]\nbind_host = '::1'", "http.bind_host", ["unknown key", "audiosocket.bind_host"]),
    ("[htpp]\nport = 8080", "htpp", ["unknown section", "http"]),
    ("zzz = 8080", "zzz", ["unknown section", "audiosocket"]),
    ("http = 8080", "http", ["section", "[http]"]),
    ("[http]\nhost = ''", "http.host", ["empty", "127.0.0.1"]),
    ("[http]\nhost = 7", "http.host", ["IP address", "7"]),
    ("[http]\nhost = '127.0.0.1:80'", "http.host", ["port has its own key"]),
    ("[http]\nhost = '[::1]'", "http.host", ["brackets"]),
    ("[http]\nhost = '127.0.0.256'", "http.host", ["IPv4"]),
    ("[http]\nhost = 'my host'", "http.host", ["'my host'"]),
    ("[http]\nhost = '0.0.0.0'\nauthentication = false", "http.authentication", ["0.0.0.0", "127.0.0.1"]),
    ("[http]\nhost = 'pbx'\nauthentication = false", "http.authentication", ["is false", "pbx"]),
    (f"[http]\nauthentication = false\ntokens = ['{TOKEN}']", "http.authentication", ["http.tokens"]),
    ("[http]\ntokens = ['aaaaaaaaaaaaaaaaaaaaaaaa']", "http.tokens[0]", ["8 different", "openssl"]),
    ("[http]\ntrusted_proxies = ['10.0.0.1/8']", "http.trusted_proxies[0]", ["10.0.0.1/8", "host bits"]),
    ("[[tokens]]\nid = 'x'\nscopes = ['admin']", "tokens.0.hash", ["is missing"]),
    (f"[[tokens]]\nid = 'x'\nscopes = ['admin']\nhash = '{TOKEN}'", "tokens.0.hash", ["sha256:", "token create"]),
    (f"[[tokens]]\nid = 'x'\nscopes = []\nhash = '{HASH}'", "tokens.0.scopes", ["a list of scopes", "calls:read"]),
    (f"[[tokens]]\nid = 'x'\nscopes = ['read']\nhash = '{HASH}'", "tokens.0.scopes[0]", ["calls:read"]),
    (f"[[tokens]]\nid = 'local'\nscopes = ['admin']\nhash = '{HASH}'", "tokens.0.id", ["local"]),
    (f"[[tokens]]\nid = 'http-1'\nscopes = ['admin']\nhash = '{HASH}'", "tokens.0.id", ["http-1"]),
    (
        f"[[tokens]]\nid = 'x'\nscopes = ['flows']\nhash = '{HASH}'\nconferences = ['a']",
        "tokens.0.scopes",
        ["flows", "conferences"],
    ),
    (
        f"[[tokens]]\nid = 'x'\nscopes = ['admin']\nhash = '{HASH}'\nextensions = ['1*']",
        "tokens.0.scopes",
        ["admin", "every call"],
    ),
    (
        f"[[tokens]]\nid = 'x'\nscopes = ['events']\nhash = '{HASH}'\nexpires = 2027-01-01T00:00:00",
        "tokens.0.expires",
        ["offset"],
    ),
    (
        f"[[tokens]]\nid = 'x'\nscopes = ['events']\nhash = '{HASH}'\nexpires = 'tomorrow'",
        "tokens.0.expires",
        ["tomorrow", "2027"],
    ),
    (
        f"[[tokens]]\nid = 'x'\nscopes = ['events']\nhash = '{HASH}'\n" * 2,
        "tokens.1.id",
        ["tokens.0"],
    ),
    ("[http]\ntokens = 'abc'", "http.tokens", ["list"]),
    ("[http]\ntokens = ['short']", "http.tokens[0]", ["16 characters", "openssl"]),
    (f"[http]\ntokens = ['{TOKEN}', 12]", "http.tokens[1]", ["expected a string"]),
    (f"[http]\ntokens = ['{TOKEN} x']", "http.tokens[0]", ["letters, digits"]),
    ("[http]\ntls_key = '/no/such/file'", "http.tls_certificate", ["missing", "tls_key"]),
    ("[http]\ntls_certificate = '/no/such/file'", "http.tls_key", ["missing"]),
    ("[http]\ntls_key = '/no/such'\ntls_certificate = '/no/such'", "http.tls_certificate", ["No such file"]),
    ("[http]\nmax_message_bytes = 1", "http.max_message_bytes", ["1024"]),
    ("[audiosocket]\nbind_host = '0.0.0.0'", "audiosocket.advertised_host", ["is empty", "0.0.0.0", "Asterisk"]),
    ("[audiosocket]\nbind_host = '::'", "audiosocket.advertised_host", ["is empty", "'::'"]),
    ("[audiosocket]\nadvertised_host = '0.0.0.0'", "audiosocket.advertised_host", ["cannot be dialed"]),
    ("[audiosocket]\nbind_port = 8080", "audiosocket.bind_port", ["http.port"]),
    ("[audiosocket]\nhandshake_timeout_s = 0", "audiosocket.handshake_timeout_s", ["0.1"]),
    ("[audiosocket]\nhandshake_timeout_s = nan", "audiosocket.handshake_timeout_s", ["seconds"]),
    ("[audiosocket]\nhandshake_timeout_s = true", "audiosocket.handshake_timeout_s", ["seconds"]),
    ("[media]\nmax_streams = 0", "media.max_streams", ["1 to 100000"]),
    ("[media]\nmax_queued_ms = 10", "media.max_queued_ms", ["200"]),
    ("[media]\nwebsocket = 'picows'", "media.websocket", ["has been removed", "delete it"]),
    ("[log]\nlevel = 'loud'", "log.level", ["debug", "loud"]),
    ("[log]\nformat = 'xml'", "log.format", ["json", "xml"]),
    ("[audit]\noutput = 'audit.jsonl'", "audit.output", ["'audit.jsonl'", "stdout", "off", "/var/log"]),
    ("[audit]\noutput = ''", "audit.output", ["stdout"]),
    ("[privacy]\nannounce_streams = 'sound:a.wav'", "privacy.announce_streams", ["speech.sounds_dir", "not set"]),
    (
        "[privacy]\nannounce_recordings = 'recorded'\n[speech]\ncommand = []",
        "privacy.announce_recordings",
        ["requires speech", "speech.command is empty"],
    ),
    ("[http", "asterisk-bridge.toml", ["not valid TOML", "line"]),
    (f"[http]\nport = {'9' * 5000}", "asterisk-bridge.toml", ["not valid TOML", "4300"]),
    ("a = " + "[" * 100_000, "asterisk-bridge.toml", ["not valid TOML", "recursion"]),
    ("[pbx]\ntrunks = 'provider'", "pbx.trunks", ["list of strings"]),
    ("[pbx]\nextensions = [1001]", "pbx.extensions[0]", ["expected a string"]),
    ("[pbx]\nextensions = ['']", "pbx.extensions[0]", ["1 to 200"]),
    ("[pbx.groups]\nsales = '1001'", "pbx.groups.sales", ["expected a list"]),
    ("[pbx.groups]\nsales = ['@all']", "pbx.groups.sales[0]", ["groups contain extensions"]),
    ("[streams]\nconnect_timeout_s = 0", "streams.connect_timeout_s", ["0.1"]),
    ("[streams]\nretry_first_s = 5\nretry_last_s = 1", "streams.retry_last_s", ["shorter"]),
    ("[streams]\nwindow_ms = 60001", "streams.window_ms", ["60000"]),
    ("[twilio]\naccount_sid = 'AC12'", "twilio.account_sid", ["openssl"]),
    ("[twilio]\naccount_sid = 'AC0123456789abcdef0123456789abcdef'", "twilio.auth_token", ["missing"]),
    ("[twilio]\nauth_token = 'a-secret-of-sixteen'", "twilio.account_sid", ["missing"]),
    ("[twilio]\nauth_token = 'short'", "twilio.auth_token", ["16"]),
    ("[twilio]\ndial_context = 'a b'", "twilio.dial_context", ["context"]),
    ("[cluster]\nstore = 'http://s'", "cluster.store", ["redis://"]),
    ("[cluster]\nstore = 'redis://s:0'", "cluster.store", ["port 0"]),
    ("[cluster]\nstore = 'redis://s/a'", "cluster.store", ["number"]),
    ("[cluster]\nstore = 'redis://s/0?x=1'", "cluster.store", ["query"]),
    ("[cluster]\nstore = 'redis://s'", "cluster.pbx", ["is empty", "ari.url"]),
    ("[cluster]\nstore = 'rediss://s'\npbx = 'p'\nca_file = '/no/such'", "cluster.ca_file", ["does not exist"]),
    ("[cluster]\nnode = 'a/b'", "cluster.node", ["a/b"]),
    ("[cluster]\nprefix = ''", "cluster.prefix", ["1 to 60"]),
    ("[cluster]\nclaim_ttl_s = 0.5", "cluster.claim_ttl_s", ["from 1 to 60"]),
    ("[subscriptions]\nid = 'a'", "subscriptions", ["[[subscriptions]]"]),
    ("[[subscription]]\nid = 'a'", "subscription", ["did you mean subscriptions"]),
    ("[[dialplan]]\nid = 'a'", "dialplan.0.match", ["missing"]),
]

SUBSCRIPTION = {"id": "'a'", "url": "'wss://app.example/x'", "dialect": "'yeastar'", "extensions": "['1001']"}
ROUTE = {"id": "'a'", "url": "'wss://app.example/x'", "dialect": "'yeastar'", "match": "'7*'"}
TABLE_MISTAKES = [
    ("subscriptions", {"url": "'http://app.example'"}, "url", ["wss://"]),
    ("subscriptions", {"url": "'wss://u:pw-in-url@app.example'"}, "url", ["auth_key"]),
    ("subscriptions", {"url": "''"}, "url", ["empty"]),
    ("subscriptions", {"id": "'A b'"}, "id", ["lowercase letters"]),
    ("subscriptions", {"id": "'yeastar'"}, "id", ["vendor's settings API"]),
    ("subscriptions", {"id": "'good'"}, "id", ["also the id of subscriptions.0"]),
    ("subscriptions", {"extensions": "['1', 2]"}, "extensions[1]", ["expected a string"]),
    ("subscriptions", {"extensions": "[]"}, "extensions", ["no call would match"]),
    ("subscriptions", {"extensions": "['@nobody']"}, "extensions", ["is not a group", "sales"]),
    ("subscriptions", {"extension": "['1']"}, "extension", ["unknown key", "did you mean extensions"]),
    ("subscriptions", {"enabled": "1"}, "enabled", ["true or false"]),
    ("subscriptions", {"auth_value": "1234567"}, "auth_value", ["expected a string"]),
    ("subscriptions", {"auth_key": "'Host'"}, "auth_key", ["handshake"]),
    ("subscriptions", {"ca_file": "'/no/such'"}, "ca_file", ["does not exist"]),
    ("subscriptions", {"sample_rate": "'8000'"}, "sample_rate", ["sampling rate"]),
    ("dialplan", {"match": "'uuid:X'"}, "match", ["UUID"]),
    ("dialplan", {"then": "'wait'"}, "then", ["hangup"]),
    ("dialplan", {"options": "3"}, "options", ["table"]),
]


@pytest.mark.parametrize(("section", "change", "key", "words"), TABLE_MISTAKES)
def test_a_mistake_in_a_list_of_tables_is_named_with_its_place(
    tmp_path: Path, section: str, change: dict[str, str], key: str, words: list[str]
) -> None:
    good = SUBSCRIPTION if section == "subscriptions" else ROUTE
    tables = [good | {"id": "'good'"}, good | change]
    text = "".join(f"[[{section}]]\n" + "\n".join(f"{k} = {v}" for k, v in table.items()) + "\n" for table in tables)
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, ARI + "[pbx.groups]\nsales = ['20*']\n" + text), {})
    assert caught.value.key == f"{section}.1.{key}"
    for word in words:
        assert word in caught.value.reason
    assert "pw-in-url" not in str(caught.value)
    assert "1234567" not in str(caught.value)


def subscription_file(folder: Path) -> Path:
    table = "\n".join(f"{k} = {v}" for k, v in (SUBSCRIPTION | {"id": "'my-app'"}).items())
    return write(folder, f"{ARI}[[subscriptions]]\n{table}\n")


def test_the_environment_overrides_a_table_by_its_id(tmp_path: Path) -> None:
    prefix = "ASTERISK_BRIDGE_SUBSCRIPTIONS__MY_APP__"
    config = load(
        subscription_file(tmp_path),
        {
            f"{prefix}AUTH_VALUE": "from the environment",
            f"{prefix}ENABLED": "false",
            f"{prefix}SAMPLE_RATE": "16000",
            f"{prefix}DIDS": "5,6",
            f"{prefix}OPTIONS": "{rate = 16000}",
            "ASTERISK_BRIDGE_PBX__GROUPS": '{sales = ["1"]}',
            "ASTERISK_BRIDGE_TWILIO__ACCOUNT_SID": "AC" + "0" * 32,
            "ASTERISK_BRIDGE_TWILIO__AUTH_TOKEN": "a-secret-of-sixteen",
        },
    )
    (subscription,) = config.subscriptions
    assert subscription.auth_value.get_secret_value() == "from the environment"
    assert (subscription.enabled, subscription.sample_rate, subscription.dids) == (False, 16000, ("5", "6"))
    assert subscription.options == {"rate": 16000}
    assert config.pbx.groups == {"sales": ("1",)}
    assert config.twilio.enabled
    assert "from the environment" not in repr(config)
    assert "a-secret-of-sixteen" not in repr(config)


@pytest.mark.parametrize(
    ("name", "value", "key", "word"),
    [
        ("MY_APP__AUTH_VALU", "x", None, "unknown setting"),
        ("OTHER__AUTH_VALUE", "x", None, "with the id"),
        ("AUTH_VALUE", "x", None, "with the id"),
        (
            "MY_APP__ENABLED",
            "perhaps",
            "subscriptions.0.enabled",
            "set by ASTERISK_BRIDGE_SUBSCRIPTIONS__MY_APP__ENABLED",
        ),
    ],
)
def test_a_variable_for_a_table_that_is_wrong(
    tmp_path: Path, name: str, value: str, key: str | None, word: str
) -> None:
    variable = f"ASTERISK_BRIDGE_SUBSCRIPTIONS__{name}"
    with pytest.raises(ConfigError) as caught:
        load(subscription_file(tmp_path), {variable: value})
    assert caught.value.key == (key or variable)
    assert word in caught.value.reason


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"STATE_DIRECTORY": "/a:/b", "HOME": "/home/u"}, "/a"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/home/u"}, "/x/asterisk-bridge"),
        ({"HOME": "/home/u"}, "/home/u/.local/state/asterisk-bridge"),
        ({"HOME": "/nonexistent"}, "/var/lib/asterisk-bridge"),
        ({}, "/var/lib/asterisk-bridge"),
        ({"ASTERISK_BRIDGE_STREAMS__STATE_FILE": ":memory:"}, None),
    ],
)
def test_where_state_is_kept(environ: dict[str, str], path: str | None) -> None:
    assert load(None, ENV | environ).streams.state_file == (f"{path}/state.sqlite3" if path else ":memory:")


ARI_MISTAKES = [
    ("url", "'ftp://pbx'", ["http://"]),
    ("url", "'127.0.0.1:8088'", ["http://"]),
    ("url", "'ws://127.0.0.1:8088'", ["https://"]),
    ("url", "'http://u:pw-in-url@pbx:8088'", ["ari.user"]),
    ("url", "'http://pbx:8088/?api_key=u:pw-in-url'", ["query"]),
    ("url", "'http://pbx:99999'", ["not a URL"]),
    ("url", "'http://'", ["host"]),
    ("app", "'my-app'", ["dash"]),
    ("app", "''", ["letters"]),
    ("user", "''", ["empty", "ari.conf"]),
    ("user", "'a:b'", [":"]),
    ("password", "''", ["empty", "ari.conf"]),
    ("password", "1234", ["expected a string"]),
]


@pytest.mark.parametrize(("text", "key", "words"), MISTAKES)
def test_a_mistake_is_named(tmp_path: Path, text: str, key: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text + "\n" + ARI), {})
    assert caught.value.key.endswith(key)
    for word in words:
        assert word in caught.value.reason


@pytest.mark.parametrize(("key", "value", "words"), ARI_MISTAKES)
def test_a_mistake_in_ari_is_named_without_its_secrets(tmp_path: Path, key: str, value: str, words: list[str]) -> None:
    keys = {"user": "'bridge'", "password": "'p'"} | {key: value}
    text = "[ari]\n" + "\n".join(f"{k} = {v}" for k, v in keys.items())
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), {})
    assert caught.value.key == f"ari.{key}"
    for word in words:
        assert word in caught.value.reason
    assert "pw-in-url" not in str(caught.value)
    assert "1234" not in str(caught.value)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        load(
            write(tmp_path, "[http]\nport = 99999\nhots = 1\n[log]\nlevel = 'x'"),
            {"ASTERISK_BRIDGE_HTTP__PROT": "1"},
        )
    keys = {error.key for error in each_error(caught.value)}
    assert keys == {"http.port", "http.hots", "log.level", "ASTERISK_BRIDGE_HTTP__PROT"}
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / name, ENV)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(path, ENV)


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    config = load(
        write(tmp_path, ARI + "[http]\nport = 1\nhost = '::1'"),
        {
            "ASTERISK_BRIDGE_ARI__PASSWORD": "other",
            "ASTERISK_BRIDGE_HTTP__PORT": "2",
            "ASTERISK_BRIDGE_AUDIOSOCKET__HANDSHAKE_TIMEOUT_S": "1.5",
            "ASTERISK_BRIDGE_LOG__LEVEL": "debug",
            "PATH": "/bin",
        },
    )
    assert config.ari.password.get_secret_value() == "other"
    assert (config.http.host, config.http.port) == ("::1", 2)
    assert config.audiosocket.handshake_timeout_s == 1.5
    assert config.log.level == "debug"


@pytest.mark.parametrize(
    "text", [f"{TOKEN},second-token-of-16", f" {TOKEN} , second-token-of-16 ", f'["{TOKEN}", "second-token-of-16"]']
)
def test_tokens_in_the_environment(text: str) -> None:
    config = load(None, ENV | {"ASTERISK_BRIDGE_HTTP__TOKENS": text})
    assert [token.get_secret_value() for token in config.http.tokens] == [TOKEN, "second-token-of-16"]


def test_an_empty_variable_means_no_tokens() -> None:
    assert load(None, ENV | {"ASTERISK_BRIDGE_HTTP__TOKENS": ""}).http.tokens == ()


@pytest.mark.parametrize(
    ("name", "value", "key", "words"),
    [
        ("ASTERISK_BRIDGE_HTTP__PORT", "8080x", "http.port", ["8080x", "ASTERISK_BRIDGE_HTTP__PORT"]),
        ("ASTERISK_BRIDGE_HTTP__PORT", "", "http.port", ["port number"]),
        ("ASTERISK_BRIDGE_HTTP__PORT", "\u0661", "http.port", ["port number"]),
        ("ASTERISK_BRIDGE_HTTP__TOKENS", "[1", "http.tokens", ["list"]),
        ("ASTERISK_BRIDGE_HTTP__TOKENS", "secretshort", "http.tokens[0]", ["16"]),
        ("ASTERISK_BRIDGE_ARI__PASWORD", "x", "ASTERISK_BRIDGE_ARI__PASWORD", ["ASTERISK_BRIDGE_ARI__PASSWORD"]),
        ("ASTERISK_BRIDGE_ARI_PASSWORD", "x", "ASTERISK_BRIDGE_ARI_PASSWORD", ["ASTERISK_BRIDGE_ARI__PASSWORD"]),
        ("ASTERISK_BRIDGE_ari__password", "x", "ASTERISK_BRIDGE_ari__password", ["ASTERISK_BRIDGE_ARI__PASSWORD"]),
        ("ASTERISK_BRIDGE_", "x", "ASTERISK_BRIDGE_", ["unknown setting"]),
    ],
)
def test_a_mistake_in_the_environment_is_named(name: str, value: str, key: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, ENV | {name: value})
    assert caught.value.key == key
    for word in words:
        assert word in caught.value.reason
    assert "secretshort" not in str(caught.value)


def test_names_that_kubernetes_puts_there_are_no_mistakes() -> None:
    load(
        None,
        ENV
        | {
            "ASTERISK_BRIDGE_SERVICE_HOST": "10.0.0.1",
            "ASTERISK_BRIDGE_SERVICE_PORT_HTTP": "8080",
            "ASTERISK_BRIDGE_PORT": "tcp://10.0.0.1:8080",
            "ASTERISK_BRIDGE_PORT_8080_TCP_ADDR": "10.0.0.1",
        },
    )


def test_a_certificate_and_a_key_that_are_none(tmp_path: Path) -> None:
    pem = tmp_path / "x.pem"
    pem.write_text("nothing")
    with pytest.raises(ConfigError, match="PEM") as caught:
        load(None, ENV | {"ASTERISK_BRIDGE_HTTP__TLS_CERTIFICATE": str(pem), "ASTERISK_BRIDGE_HTTP__TLS_KEY": str(pem)})
    assert caught.value.key == "http.tls_certificate"


@pytest.mark.parametrize("ending", ["", "/", "/ari", "/ari/"])
def test_the_ari_url_may_end_in_ari(ending: str) -> None:
    assert load(None, ENV | {"ASTERISK_BRIDGE_ARI__URL": f"http://pbx:8088{ending}"}).ari.url == "http://pbx:8088"


def test_secrets_show_in_no_repr() -> None:
    config = load(None, ENV | {"ASTERISK_BRIDGE_HTTP__TOKENS": TOKEN})
    for text in (repr(config), str(config), config.model_dump_json()):
        assert TOKEN not in text
        assert "a secret word" not in text


def test_a_store_is_shown_without_its_password() -> None:
    config = load(None, ENV | {"ASTERISK_BRIDGE_CLUSTER__STORE": "redis://u:hush@s.example:7/2", **PBX})
    assert "hush" not in repr(config)
    assert config.cluster.display_url == "redis://s.example:7/2"
    with pytest.raises(ConfigError) as refused:
        load(None, ENV | {"ASTERISK_BRIDGE_CLUSTER__STORE": "redis://u:hush@s.example:x", **PBX})
    assert "hush" not in str(refused.value)


def test_names_in_a_cluster() -> None:
    cluster = ClusterConfig()
    assert not cluster.enabled
    ari = AriConfig(url="https://PBX.example", app="voice")
    assert (cluster.pbx_name(ari), cluster.pbx_is_ambiguous(ari)) == ("pbx.example:443", False)
    assert cluster.node_name(ari) == f"{socket.gethostname()}.voice"
    assert ClusterConfig(node="n", pbx="p").pbx_name(ari) == "p"
    assert cluster.pbx_is_ambiguous(AriConfig())
    assert not ClusterConfig(pbx="p").pbx_is_ambiguous(AriConfig())


PBX = {"ASTERISK_BRIDGE_CLUSTER__PBX": "p"}


def test_a_configuration_does_not_change() -> None:
    config = load(None, ENV)
    with pytest.raises(ValidationError):
        config.http.port = 1


def test_an_ipv6_address_is_advertised_in_brackets() -> None:
    config = Config.model_validate({"audiosocket": {"bind_host": "::1"}})
    assert config.audiosocket.advertised_address(40000) == "[::1]:40000"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST", "::ffff:127.0.0.1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example.org", "", "::ffff:10.0.0.1"]
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


ROOT = Path(__file__).parents[2]


def test_the_example_holds_every_key_with_its_default() -> None:
    path = ROOT / "examples" / "asterisk-bridge.toml"
    assert load(path, {"ASTERISK_BRIDGE_ARI__PASSWORD": "p"}) == load(
        None, {"ASTERISK_BRIDGE_ARI__USER": "bridge", "ASTERISK_BRIDGE_ARI__PASSWORD": "p"}
    )
    keys = {section: set(values) for section, values in tomllib.loads(path.read_text()).items()}
    assert keys == {section: set(model.model_fields) for section, model in SECTIONS.items()}


def test_every_key_is_documented() -> None:
    chapters = (ROOT / "docs/reference/configuration.md").read_text().split("\n## ")
    for section, model in [(name, model) for name, model in SECTIONS.items()] + [
        (f"[{name}]", model) for name, model in TABLES.items()
    ]:
        chapter = next(chapter for chapter in chapters if chapter.startswith(f"[{section}]"))
        for key, field in model.model_fields.items():
            row = next((line for line in chapter.splitlines() if line.startswith(f"| `{key}` |")), None)
            assert row, f"{section}.{key}"
            if isinstance(field.default, int | float) and not isinstance(field.default, bool):
                assert f"`{field.default}`" in row


DOCUMENTS = "[[dialplan]]\nid = 'agent'\nmatch = '750'\ntwiml_url = 'https://agent.example/voice'\n"


@pytest.mark.parametrize(
    ("more", "key", "word"),
    [
        ("url = 'wss://app.example/x'\ndialect = 'twilio'", "url", "only one"),
        ("auth_value = 'Bearer x'", "auth_value", "signature"),
        ("dialect = 'twilio'", "dialect", "no effect with twiml_url"),
        ("options = {rate = 8000}", "options", "no effect with twiml_url"),
        ("[dialplan.agent]\ninstructions = 'Be brief.'", "agent", "no effect with twiml_url"),
        ("[[flows]]\nid = 'agent'\nactions = [{type = 'answer'}]", "id", "also the id of a flow"),
        ("status_callback = 'ftp://x'", "status_callback", "http"),
        ("status_callback = 'https://x/{number}'", "status_callback", "{number} is unknown"),
        ("twiml_fallback_url = 'https://{did}.x/'", "twiml_fallback_url", "host"),
        ("twiml_method = 'PUT'", "twiml_method", "POST"),
    ],
)
def test_contradictions_of_a_route_with_documents(tmp_path: Path, more: str, key: str, word: str) -> None:
    assert load(write(tmp_path, f"{DOCUMENTS}\n{ARI}"), {}).dialplan[0].twiml_url == "https://agent.example/voice"
    with pytest.raises(ConfigError, match=word) as caught:
        load(write(tmp_path, f"{DOCUMENTS}{more}\n{ARI}"), {})
    assert caught.value.key.endswith(key)


def test_a_route_without_documents_needs_a_dialect_and_has_no_fallback(tmp_path: Path) -> None:
    route = "[[dialplan]]\nid = 'a'\nmatch = '7'\nurl = 'wss://x'\n"
    with pytest.raises(ConfigError, match="wire format"):
        load(write(tmp_path, route + ARI), {})
    with pytest.raises(ConfigError, match="requires twiml_url"):
        load(write(tmp_path, f"{route}dialect = 'twilio'\nstatus_callback = 'https://x/s'\n{ARI}"), {})
