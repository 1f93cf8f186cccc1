"""What single actions do: recordings, streams, decisions, requests."""

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace

from bridge.flows.actions.control import ConditionDatetimeOptions, holds_at
from bridge.flows.checking import check_possible
from bridge.flows.program import InvalidFlow
from bridge.flows.syntax import parse
from bridge.flows.web import ServerResponse
from bridge.outbound.gate import Gate
from tests.fakes.virtual_time import now, pass_time, run_virtually
from tests.unit.flows.world import EVERYTHING, TOKEN, World, step

from datetime import UTC, datetime  # isort: skip


def test_goto_jumps_so_often_and_then_goes_on() -> None:
    async def act() -> None:
        world = World()
        flow = [
            step("talk", "again", text="one"),
            step("goto", target_id="again", loop_count=2),
            step("talk", text="two"),
            step("goto", target_id="again"),
        ]
        await world.done(flow)
        assert [utterance.text for utterance in world.speech.said] == ["one", "one", "one", "two"]

    run_virtually(act())


def test_branch_jumps_by_a_variable_and_empties_it() -> None:
    async def act() -> None:
        world = World()
        flow = [
            step("branch", variable="answer", target_ids={"1": "one"}, default_target_id="other"),
            step("talk", text="skipped"),
            step("talk", "one", next_id="end", text="one"),
            step("talk", "other", text="other"),
            step("stop", "end"),
        ]
        run, end = await world.done(flow, answer="1")
        assert [utterance.text for utterance in world.speech.said] == ["one"]
        assert run.variables.get("answer") == ""
        assert end.reason == "stopped"
        await world.done(flow, answer="9")
        assert [utterance.text for utterance in world.speech.said] == ["one", "other"]

    run_virtually(act())


def test_conditions_go_on_or_jump() -> None:
    async def act() -> None:
        world = World()
        for option, holds in (
            ({"variable": "x", "value_string": "abc"}, True),
            ({"variable": "${x}", "value_string": "abc"}, True),
            ({"variable": "x", "value_string": "abd"}, False),
            ({"variable": "x", "value_type": "length", "value_length": 2, "condition": ">"}, True),
            ({"variable": "n", "value_type": "number", "value_number": 5, "condition": "<="}, True),
            ({"variable": "x", "value_type": "number", "value_number": 5}, False),
            ({"variable": "voipbin.nobody", "value_string": ""}, True),
        ):
            world.speech.said.clear()
            flow = [step("condition_variable", false_target_id="no", **option), step("talk", text="yes"),
                    step("stop"), step("talk", "no", text="no")]  # fmt: skip
            await world.done(flow, x="abc", n="5")
            assert world.speech.said[0].text == ("yes" if holds else "no"), option

    run_virtually(act())


def test_a_moment_is_compared_part_by_part() -> None:
    saturday = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
    assert holds_at(ConditionDatetimeOptions(condition=">=", hour=8), saturday)
    assert not holds_at(ConditionDatetimeOptions(condition=">=", hour=10), saturday)
    assert holds_at(ConditionDatetimeOptions(weekdays=[6]), saturday)
    assert not holds_at(ConditionDatetimeOptions(weekdays=[0, 1, 2, 3, 4, 5]), saturday)
    assert holds_at(ConditionDatetimeOptions(month=11, day=21, hour=9, minute=30), saturday)


def test_if_takes_one_branch() -> None:
    async def act() -> None:
        world = World()

        def say(text: str) -> dict[str, Any]:
            return {"type": "SAY", "params": {"text": text}}

        flow = [
            {"$tries": "$start"},
            {"type": "IF", "condition": "$tries == 2", "then": [say("yes")], "orElse": [say("no"), say("really")]},
            say("after"),
        ]
        await world.done(flow, start="2")
        await world.done(flow, start="3")
        assert [utterance.text for utterance in world.speech.said] == ["yes", "after", "no", "really", "after"]

    run_virtually(act())


def test_recordings_begin_and_end_and_their_id_is_known() -> None:
    async def act() -> None:
        world = World()
        flow = [
            step("recording_start", direction="in", end_of_silence=3, end_of_key="any", duration=60, beep_start=True),
            step("variable_set", key="id", value="${voipbin.recording.id}"),
            step("recording_stop"),
            step("recording_stop"),
        ]
        run, _ = await world.done(flow)
        how = {
            "format": "wav",
            "max_silence_s": 3,
            "max_duration_s": 60,
            "terminate_on": "any",
            "beep": True,
            "direction": "in",
        }
        assert world.recordings.did == [("start", "call-1", how), ("stop", "recording-1")]
        assert run.variables.get("id") == "recording-1"
        assert world.failures() == []

    run_virtually(act())


def test_record_waits_until_its_message_is_whole() -> None:
    async def act() -> None:
        world = World()
        run = world.run([{"type": "RECORD", "name": "message", "params": {"finish_on_key": "pound", "max_length": 60}}])
        asyncio.get_running_loop().call_later(4, lambda: world.recordings.made[0].over.set())
        await run.run()
        assert now() == 4
        assert world.recordings.did[0][2]["terminate_on"] == "#"
        assert run.variables.get("message") == "recording-1"
        assert len(world.recordings.did) == 1, "it ended by itself"

    run_virtually(act())


def test_streams_begin_and_end_without_holding_up_the_flow() -> None:
    async def act() -> None:
        world = World()
        params = {"url": "ws://app.example/s", "tracks": ["caller"], "stream_data": {"who": "${who}"}}
        flow = [
            {"type": "STREAM", "params": {**params, "action": "start"}},
            {"type": "SAY", "params": {"text": "hello"}},
            {"type": "STREAM", "params": {"url": "ws://app.example/s", "action": "stop"}},
        ]
        await world.done(flow, who="me")
        assert [each[:2] for each in world.streams.did] == [(0, "stream_start"), (2, "stream_stop"), (2, "stop")]
        assert world.streams.did[0][2].data == {"who": "me"}
        assert world.streams.principals == [TOKEN]

    run_virtually(act())


def test_connect_waits_until_the_application_closes_and_then_goes_on() -> None:
    async def act() -> None:
        world = World()
        params = {"url": "ws://app.example/s", "dialect": "twilio", "connect": True}
        flow = [{"type": "STREAM", "params": params}, {"type": "SAY", "params": {"text": "bye"}}]
        asyncio.get_running_loop().call_later(7, lambda: world.streams.started[0].ended.set())
        await world.done(flow)
        assert world.players.heard[0][1] == 7

    run_virtually(act())


def test_external_media_takes_urls_hosts_and_variables() -> None:
    async def act() -> None:
        world = World()
        flow = [
            step("external_media_start", url="ws://app.example/${id}", encapsulation="sln", direction_listen="both"),
            step("external_media_start", external_host="192.0.2.1:4000"),
            step("external_media_start", url="${id}"),
            step("external_media_stop"),
        ]
        await world.done(flow, id="x1")
        assert [each[1] for each in world.streams.did] == ["external_media_start"] * 2 + ["external_media_stop", "stop"]
        assert world.streams.did[0][2].target.url == "ws://app.example/x1"
        assert world.failures()[0][0] == 2

    run_virtually(act())


def test_fetched_actions_run_and_then_the_flow_goes_on() -> None:
    async def act() -> None:
        world = World()
        fetched = json.dumps([step("talk", text="fetched")]).encode()
        world.web.answers["http://app.example/f?d=1%202"] = ServerResponse(200, fetched)
        flow = [step("fetch", event_url="http://app.example/f?d=${d}"), step("talk", text="after")]
        run, _ = await world.done(flow, d="1 2")
        assert [utterance.text for utterance in world.speech.said] == ["fetched", "after"]
        method, _, body, headers = world.web.asked[0]
        assert method == "POST"
        assert headers["Content-Type"] == "application/json"
        asked = json.loads(body or b"")
        assert (asked["activeflow_id"], asked["reference_id"]) == (run.id, "call-1")
        assert asked["call"]["id"] == "call-1"

    run_virtually(act())


def test_what_a_server_answers_wrongly_fails_the_action() -> None:
    async def act() -> None:
        world = World()
        for number, answer in enumerate(
            [
                ServerResponse(500, b"[]"),
                ServerResponse(200, b"<html>"),
                ServerResponse(200, b'[{"type": "talk"}]'),
                ServerResponse(200, b"{}"),
            ]
        ):
            world.web.answers[f"http://x/{number}"] = answer
        await world.done([step("fetch", event_url=f"http://x/{number}") for number in range(4)])
        assert [reason for _, reason in world.failures()] == [
            "failed: the server responded with status 500",
            "failed: the server's response is not JSON",
            "failed: actions[0].option.text: is missing; expected a string of 1 to 10000 characters",
            "failed: actions: expected a list of actions",
        ]

    run_virtually(act())


def test_flows_that_fetch_themselves_for_ever_are_bounded() -> None:
    async def act() -> None:
        world = World()
        world.web.answers["http://x/"] = ServerResponse(
            200, json.dumps([step("fetch", event_url="http://x/")]).encode()
        )
        await world.done([step("fetch", event_url="http://x/")])
        assert world.failures() == [(0, "failed: flows are nested more than 20 levels deep")]
        assert len(world.web.asked) == 20

    run_virtually(act())


def test_redirect_asks_in_voxology_s_words_and_forgets_the_rest() -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()
        world.web.answers["http://x/next"] = ServerResponse(
            200,
            json.dumps({"actions": [{"type": "SAY", "params": {"text": "${sessionData.n} ${keyPresses}"}}]}).encode(),
        )
        flow = [
            {"type": "SESSIONDATA", "session_data": {"n": 7}},
            {"type": "COLLECT", "name": "guess", "params": {"num_digits": 2}},
            {"type": "REDIRECT", "params": {"url": "http://x/next"}},
            {"type": "SAY", "params": {"text": "never"}},
        ]
        run = world.run(flow, leg)
        await asyncio.gather(run.run(), leg.press("42", after_s=1))
        body = json.loads(world.web.asked[0][2] or b"")
        assert body["key_presses"] == [{"name": "guess", "digits": "42"}]
        assert body["session_data"] == {"n": 7}
        assert body["call_id"] == "call-1"
        assert [utterance.text for utterance in world.speech.said] == ["7 42"]
        assert run.key_presses == []

    run_virtually(act())


def test_webhook_send_waits_if_asked_and_keeps_the_answer() -> None:
    async def act() -> None:
        world = World()

        async def slow() -> ServerResponse:
            await pass_time(3)
            return ServerResponse(201, b"made")

        world.web.answers["http://x/"] = slow
        data = '{"n": "${n}"}'
        run, _ = await world.done([step("webhook_send", uri="http://x/", data=data, sync=True)], n='"')
        assert now() == 3
        assert run.variables.get("voipbin.webhook.status_code") == "201"
        assert run.variables.get("voipbin.webhook.body") == "made"
        assert json.loads(world.web.asked[0][2] or b"") == {"n": '"'}
        run, _ = await world.done([step("webhook_send", uri="http://x/"), step("sleep", duration=4000)])
        assert now() == 7, "beside the flow"
        assert len(world.web.asked) == 2

    run_virtually(act())


def test_conference_ends_with_who_left_if_asked_and_refuses_when_full() -> None:
    async def act() -> None:
        world = World()
        world.conferences.members["full"] = 2
        flow = [
            {"type": "CONFERENCE", "params": {"name": "full", "max_participants": 2}},
            {"type": "CONFERENCE", "params": {"name": "room", "end_on_exit": "true"}},
        ]
        await world.done(flow)
        assert world.conferences.did == [("join", "call-1", "room", True, False), ("delete", "room")]
        assert world.failures()[0][0] == 0
        await world.done([step("conference_join", conference_id="c")])
        assert world.conferences.did[-1] == ("join", "call-1", "c", False, False)

    run_virtually(act())


def test_a_machine_that_answers_is_hung_up_if_asked() -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()
        leg.variables = {"AMDSTATUS": "MACHINE", "AMDCAUSE": "LONGGREETING-2000-2000"}
        _, end = await world.done([step("amd", machine_handle="hangup"), step("talk", text="never")], leg)
        assert leg.did[-1][1:] == ("hang_up", "normal", "amd")
        assert end.reason == "hung up: amd"
        leg = world.leg("call-2")
        leg.variables = {"AMDSTATUS": "HUMAN"}
        run, _ = await world.done([step("amd", machine_handle="hangup"), step("talk", text="hello")], leg)
        assert run.variables.get("amd.status") == "HUMAN"
        assert world.speech.said

    run_virtually(act())


def test_a_queue_is_joined_through_the_dialplan() -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()
        leg.variables = {"QUEUESTATUS": "TIMEOUT"}
        run, _ = await world.done([step("queue_join", queue_id="sales"), step("queue_join", queue_id="a,b")], leg)
        assert [each for each in leg.did if each[1] == "visit_dialplan"] == [(0, "visit_dialplan", "queue-sales")]
        assert run.variables.get("queue.status") == "TIMEOUT"
        assert world.failures() == [(1, "failed: queue_id: 'a,b' is not a valid queue name")]

    run_virtually(act())


def test_only_a_flow_of_the_configuration_names_hosts_of_this_machine() -> None:
    async def act() -> None:
        inner = [step("webhook_send", uri="http://localhost/fetched", sync=True)]
        flow = [
            step("webhook_send", uri="http://localhost/${id}", sync=True),
            step("webhook_send", uri="http://${host}/", sync=True),
            step("webhook_send", uri="http://localhost:80${port}/", sync=True),
            step("webhook_send", uri="${url}", sync=True),
            step("external_media_start", url="ws://localhost/${id}?c=${caller}", direction_listen="both"),
            step("external_media_start", url="ws://${host}/", direction_listen="both"),
            step("external_media_start", external_host="127.0.0.1:4000"),
            step("external_media_start", external_host="${host}:4000"),
            step("fetch", event_url="http://localhost/flow"),
        ]
        variables = {"id": "x1", "host": "localhost", "port": "80", "url": "http://localhost/", "caller": "a&b=../c"}
        expected = {True: [True, False, False, False, True, False], False: [False] * 6}
        streams = {True: [True, False, True, False], False: [False] * 4}
        for configured in (True, False):
            world = World()
            world.web.answers["http://localhost/flow"] = ServerResponse(200, json.dumps(inner).encode())
            run = world.run(flow, leg=None, **variables)
            run.frames[0].program = replace(run.frames[0].program, configured=configured)
            await run.run()
            assert world.web.configured == expected[configured], "the last one is of a fetched flow"
            media = [each[2] for each in world.streams.did if each[1] == "external_media_start"]
            assert [options.target.host_configured for options in media[:2]] == streams[configured][:2]
            assert [options.configured for options in media[2:]] == streams[configured][2:]
            assert media[0].target.url == "ws://localhost/x1?c=a%26b%3D..%2Fc"
            assert not any(options.target.configured for options in media[:2]), "its ca_file is below outbound.ca_dir"

    run_virtually(act())


def test_no_option_says_that_a_flow_is_of_the_configuration() -> None:
    with pytest.raises(InvalidFlow, match="configured"):
        parse([step("external_media_start", url="ws://localhost/", direction_listen="both", configured=True)])


def test_sensitive_mode_is_for_the_call_of_the_flow() -> None:
    async def act() -> None:
        world = World()
        flow = [step("sensitive_start"), step("sensitive_start", duration=20), step("sensitive_stop")]
        await world.done(flow)
        assert world.sensitive.did == [("start", "call-1", 300), ("start", "call-1", 20), ("stop", "call-1")]
        assert world.failures() == []

    run_virtually(act())


def test_hosts_that_are_denied_refuse_a_flow_before_it_runs() -> None:
    denied = [
        step("webhook_send", uri="http://169.254.169.254/latest"),
        step("fetch", event_url="http://u@localhost:80/x"),
        step("play", stream_urls=["welcome.wav", "http://[::1]/a.wav"]),
        step("external_media_start", url="ws://127.0.0.1/", direction_listen="both"),
        step("external_media_start", external_host="127.0.0.1:4000"),
    ]
    passes = [
        step("webhook_send", uri="http://app.example/${id}"),
        step("webhook_send", uri="http://${host}/"),
        step("external_media_start", external_host="${host}:4000"),
        step("play", stream_urls=["welcome.wav"]),
    ]
    check_possible(parse(passes), EVERYTHING, Gate())
    with pytest.raises(InvalidFlow) as refused:
        check_possible(parse([*passes, *denied]), EVERYTHING, Gate())
    assert [(fault.index, fault.key) for fault in refused.value.errors] == [
        *((4, "option.uri"), (5, "option.event_url"), (6, "option.stream_urls[1]")),
        *((7, "option.url"), (8, "option.external_host")),
    ]
    assert "host metadata" in refused.value.errors[0].reason
    check_possible(replace(parse(denied[1:]), configured=True), EVERYTHING, Gate())
    with pytest.raises(InvalidFlow, match="loopback"):
        check_possible(
            parse({"actions": [{"type": "REDIRECT", "params": {"url": "http://localhost/"}}]}), EVERYTHING, Gate()
        )
