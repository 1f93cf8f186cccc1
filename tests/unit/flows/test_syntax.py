"""both syntaxes: what is taken, what is refused and in which words, and what is shown of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.flows import voipbin, voxology
from bridge.flows.action_registry import DEFINITIONS
from bridge.flows.program import InvalidFlow
from bridge.flows.syntax import action_schemas, parse, syntax_of
from tests.unit.flows.world import step

SEEDS = Path(__file__).parents[2] / "wire" / "seeds"
VOIPBIN_BODIES: list[list[dict[str, Any]]] = [
    [{"type": "answer"}, {"type": "beep"}, {"type": "hangup"}],
    [step("talk", text="Hello. Welcome.", language="en-US")],
    [step("talk", text="<speak>Hi</speak>", provider="gcp", voice_id="en-US-Wavenet-D", digits_handle="next")],
    [step("amd", machine_handle="hangup", **{"async": True})],
    [
        {
            "id": "e34ab97a-c53a-4eb4-aebf-36767a528f00",
            "next_id": "00000000-0000-0000-0000-000000000000",
            "type": "connect",
            "option": {
                "source": {"type": "tel", "target": "+11111111111111"},
                "destinations": [{"type": "tel", "target": "+222222222222222"}],
                "early_media": False,
                "relay_reason": True,
                "anonymous": "auto",
            },
        }
    ],
    [
        step("digits_receive", duration=10000, length=3, key="#"),
        step("branch", default_target_id="d", target_ids={"1": "c", "2": "d"}),
        step("talk", "c", text="one"),
        step("goto", "d", target_id="c", loop_count=2),
    ],
    [step("digits_send", digits="1234567890", duration=500, interval=500)],
    [step("echo", duration=30000), step("stream_echo", duration=10000)],
    [step("external_media_start", url="ws://app.example/x", encapsulation="audiosocket"),
     {"type": "external_media_stop"}],
    [step("external_media_start", external_host="192.168.1.100:8000", encapsulation="rtp", transport="udp",
          connection_type="client", format="ulaw", direction="both", data="")],
    [step("fetch", event_method="POST", event_url="https://flows.example/e47c9b40")],
    [step("play", stream_urls=["https://sounds.example/example-mono_16bit_8khz_pcm.wav"])],
    [step("queue_join", queue_id="99bf739a-932f-433c-b1bf-103d33d7e9bb")],
    [step("conference_join", conference_id="367e0e7a-3a8c-11eb-bb08-f3c3f059cfbe")],
    [step("recording_start", format="wav", end_of_silence=3, end_of_key="none", duration=600, beep_start=True,
          on_end_flow_id="00000000-0000-0000-0000-000000000000"), {"type": "recording_stop"}],
    [step("variable_set", key="Provider name", value="voipbin")],
    [step("webhook_send", sync=True, uri="https://test.example", method="POST", data_type="application/json",
          data='{"destination_number": "${voipbin.call.destination.target}"}')],
    [step("condition_variable", condition="==", variable="voipbin.call.source.target", value_type="string",
          value_string="+821100000001", false_target_id="f"), step("stop", "f")],
]  # fmt: skip


@pytest.mark.parametrize("body", VOIPBIN_BODIES, ids=lambda body: body[0]["type"])
def test_voipbin_s_bodies_are_taken_as_they_are(body: list[dict[str, Any]]) -> None:
    program = parse(json.loads(json.dumps(body)))
    assert program.syntax == "voipbin"
    assert [action.type for action in program.actions] == [each["type"] for each in body]
    assert parse({"actions": body}).actions[0].options == program.actions[0].options


VOXOLOGY_BODIES: list[dict[str, Any]] = [
    {
        "name": "invitation",
        "comments": "asks",
        "actions": [
            {
                "type": "COLLECT",
                "actions": [{"type": "SAY", "params": {"text": "Press 1.", "loop": 1}}],
                "params": {"num_digits": 1, "timeout": 5000},
            },
            {"type": "REDIRECT", "params": {"url": "https://game.example/participation", "method": "POST"}},
        ],
    },
    {
        "actions": [
            {"type": "SAY", "params": {"text": "Hello, Jill", "loop": 1}},
            {"type": "CONFERENCE", "params": {"name": "test-conf"}},
            {"name": "rating", "type": "COLLECT",
             "params": {"num_digits": 1, "finish_on_key": "pound", "timeout": 3000}},
            {"type": "SESSIONDATA", "session_data": {"number": 7, "tries": 0}},
            {"type": "PLAY", "params": {"url": "https://sounds.example/fanfare.mp3"}},
            {"type": "PAUSE", "params": {"duration": 1000}},
            {"type": "RECORD", "params": {"action": "start"}},
            {"type": "HANGUP"},
        ]
    },
    {
        "actions": [
            {
                "type": "STREAM",
                "params": {
                    "url": "ws://app.example/stream",
                    "action": "start",
                    "tracks": ["caller", "transfer"],
                    "stream_data": {"customer": {"id": 7}},
                },
            },
            {"type": "SAY", "params": {"text": "You are being streamed."}},
            {"type": "PAUSE", "params": {"duration": 2000}},
            {"type": "STREAM", "params": {"url": "ws://app.example/stream", "action": "stop", "tracks": ["caller"]}},
            {"type": "TRANSFER", "comment": "on", "params": {"no": "+13235550100"}},
        ]
    },
    {
        "actions": [
            {"$sessionData.room": "$callId"},
            {"type": "LABEL", "name": "again"},
            {
                "type": "IF",
                "condition": "$keyPresses == $sessionData.number",
                "then": [{"type": "SAY", "params": {"text": "Right: ${keyPresses}"}}, {"type": "HANGUP"}],
                "orElse": [{"type": "GOTO", "params": {"label": "again"}}],
            },
            {"type": "CONFERENCE",
             "params": {"name": "${sessionData.room}", "max_participants": 2, "end_on_exit": "true"}},
        ]
    },
]  # fmt: skip


def test_the_seed_s_flow_is_taken_byte_for_byte() -> None:
    flow = parse(json.loads((SEEDS / "voxology-flow.json").read_text()))
    assert [each.type for each in flow.actions] == ["STREAM", "SAY", "PAUSE", "STREAM", "SAY", "HANGUP"]


@pytest.mark.parametrize("body", VOXOLOGY_BODIES, ids=range(4))
def test_voxology_s_bodies_are_taken_as_they_are(body: dict[str, Any]) -> None:
    assert parse(body).syntax == "voxology"
    assert parse(body["actions"]).syntax == "voxology"


def test_both_syntaxes_run_the_same_functions() -> None:
    said = parse([{"type": "SAY", "params": {"text": "hi"}}]).actions[0]
    talked = parse([step("talk", text="hi")]).actions[0]
    assert said.does == talked.does == "talk"
    assert said.options == talked.options
    for word, does in (("PLAY", "play"), ("TRANSFER", "connect"), ("HANGUP", "hangup")):
        params = {"PLAY": {"url": "http://x/y"}, "TRANSFER": {"no": "1"}}.get(word, {})
        assert parse([{"type": word, "params": params}]).actions[0].does == does
        assert not DEFINITIONS[does].internal


REFUSED: list[tuple[Any, str]] = [
    ("x", "actions: expected a list of actions"),
    ({"action": []}, "actions: expected a list of actions"),
    ([5], 'actions[0]: expected an object with "type" and "option"'),
    ([{}], "actions[0].type: expected the name of an action"),
    ([{"type": "tlak"}], "actions[0].type: unknown action 'tlak'; did you mean talk?"),
    ([{"type": "jump", "option": {"target_id": "x"}}], "actions[0].type: unknown action 'jump'"),
    ([{"type": "transcribe_start"}],
     "actions[0].type: 'transcribe_start' is not supported: speech recognition"),
    ([step("answer"), step("sleep", duration="x")],
     'actions[1].option.duration: expected milliseconds from 0 to 86400000, got "x"'),
    ([step("sleep", duration=-1)], "actions[0].option.duration: expected milliseconds from 0 to 86400000, got -1"),
    ([step("sleep")], "actions[0].option.duration: is missing; expected milliseconds from 0"),
    ([step("sleep", duration=1, until="x")], "actions[0].option.until: unknown key; expected duration"),
    ([{"type": "answer", "option": []}], "actions[0].option: expected an object"),
    ([{"type": "answer", "options": {}}], "actions[0].options: unknown key; did you mean option?"),
    ([step("goto", target_id="nowhere", loop_count=1)], "actions[0].option.target_id: unknown action id 'nowhere'"),
    ([step("branch", target_ids={"1": "x"})], "actions[0].option.target_ids.1: unknown action id 'x'"),
    ([step("answer", next_id="x")], "actions[0].next_id: unknown action id 'x'"),
    ([step("answer", "a"), step("beep", "a")], "actions[1].id: duplicates the id of actions[0]"),
    ([step("connect", destinations=[{"type": "agent", "target": "x"}])],
     'actions[0].option.destinations[0].type: expected one of tel, sip, extension, conference, got "agent"'),
    ([step("connect", destinations=[])], "actions[0].option.destinations: expected a list of 1 to 20 addresses"),
    ([step("digits_send", digits="12x")], "actions[0].option.digits: expected 1 to 100 DTMF digits: 0-9, A-D, * and #"),
    ([step("digits_send", digits="1", duration=50)],
     "actions[0].option.duration: expected milliseconds from 100 to 1000"),
    ([step("hangup", reason="bored")], "actions[0].option.reason: expected one of normal, busy"),
    ([step("fetch", event_url="ftp://x/")], "actions[0].option.event_url: expected an http:// or https:// URL"),
    ([step("external_media_start", url="http://x/")], "actions[0].option.url: must start with ws:// or wss://"),
    ([step("external_media_start", url="ws://x/", dialect="morse")], "actions[0].option.dialect: "),
    ([step("recording_start", on_end_flow_id="f")], "actions[0].option: on_end_flow_id is not supported"),
    ([{"type": "SAY"}], "actions[0].params.text: is missing; expected a string of 1 to 10000 characters"),
    ([{"type": "SAY", "params": {"text": "x"}, "option": {}}],
     "actions[0].option: unknown key; expected type, name"),
    ([{"type": "QUEUE"}], "actions[0].type: 'QUEUE' is not supported: use VoIPBIN's queue_join"),
    ([{"type": "GOTO", "params": {"label": "x"}}], "actions[0].params.label: unknown LABEL 'x'"),
    ([{"type": "LABEL", "name": "x"}, {"type": "LABEL", "name": "x"}], "actions[1].name: duplicate LABEL 'x'"),
    ([{"type": "IF", "condition": "1 +", "then": []}], "actions[0].condition: syntax error at '+'"),
    ([{"type": "IF", "condition": "true", "then": [{"type": "SAY"}]}], "actions[0].then[0].params.text: is missing"),
    ([{"type": "COLLECT", "actions": [{"type": "HANGUP"}]}],
     "actions[0].actions[0].type: expected one of SAY, PLAY, PAUSE"),
    ([{"type": "PAUSE", "params": {"seconds": "ten"}}],
     'actions[0].params.seconds: expected seconds from 0 to 86400, got "ten"'),
    ([{"type": "PAUSE", "params": {"seconds": 86_401}}], "actions[0].params.seconds: expected seconds from 0 to 86400"),
    ([{"type": "PAUSE", "params": {"seconds": 1, "duration": 1000}}],
     "actions[0].params: give either seconds or duration, not both"),
    ([{"type": "PAUSE", "params": {"digits_handle": "next"}}],
     "actions[0].params.digits_handle: unknown key; expected seconds, duration"),
    ([{"type": "STREAM", "params": {"url": "ws://x/", "tracks": ["left"]}}],
     "actions[0].params.tracks: 'left' is not one of"),
    ([{"type": "CONFERENCE", "params": {"name": "x"}, "events": {}}], "actions[0].events: unknown key; expected "),
    ([{"$now": "new Date()"}], "actions[0].$now: syntax error at 'new Date()'"),
]  # fmt: skip


@pytest.mark.parametrize(("flow", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_a_wrong_flow_is_refused_naming_index_and_key(flow: Any, reason: str) -> None:
    with pytest.raises(InvalidFlow) as refused:
        (parse if isinstance(flow, list) else voipbin.parse)(flow)
    assert str(refused.value).splitlines()[0].startswith(reason)


def test_everything_that_is_wrong_is_told_at_once_in_order() -> None:
    with pytest.raises(InvalidFlow) as refused:
        parse([step("sleep", duration="x", x=1), step("talk", text=5), step("nothing")])
    assert [(error.index, error.key) for error in refused.value.errors] == [
        (0, "option.duration"),
        (0, "option.x"),
        (1, "option.text"),
        (2, "type"),
    ]


def test_lists_are_bounded() -> None:
    with pytest.raises(InvalidFlow, match="at most 1000 actions; got 1001"):
        parse([step("answer")] * 1001)
    nested: dict[str, Any] = {"type": "HANGUP"}
    for _ in range(30):
        nested = {"type": "IF", "condition": "true", "then": [nested]}
    with pytest.raises(InvalidFlow, match="nested more"):
        parse([nested])
    wide = {"type": "IF", "condition": "true", "then": [{"type": "HANGUP"}] * 900}
    with pytest.raises(InvalidFlow, match="at most 1000"):
        parse([wide, wide])


def test_numbers_may_be_variables_but_not_other_texts() -> None:
    assert parse([step("sleep", duration="${x}")]).actions[0].options.duration == "${x}"
    with pytest.raises(InvalidFlow):
        parse([step("sleep", duration="$x")])
    with pytest.raises(InvalidFlow):
        parse([step("sleep", duration=True)])


def test_the_first_type_decides_the_syntax() -> None:
    assert syntax_of([{"type": "SAY"}]) == "voxology"
    assert syntax_of([{"type": "talk"}, {"type": "SAY"}]) == "voipbin"
    assert syntax_of([{"$a": "1"}]) == "voxology"
    assert syntax_of([]) == syntax_of("x") == "voipbin"


def test_the_schemas_name_every_action_and_hold_no_reference() -> None:
    schemas = action_schemas()
    text = json.dumps(schemas)
    assert "$ref" not in text
    names = {each["properties"]["type"]["const"] for each in schemas["VoipbinAction"]["oneOf"]}
    assert names == {name for name, each in DEFINITIONS.items() if not each.internal}
    words = {each["properties"]["type"]["const"] for each in schemas["VoxologyAction"]["oneOf"]}
    assert words == set(voxology.TYPES)
    talk = next(each for each in schemas["VoipbinAction"]["oneOf"] if each["title"] == "talk")
    assert talk["required"] == ["type", "option"]
    assert talk["properties"]["option"]["properties"]["async"]["type"] == "boolean"
