"""A vendor's name stands in its dialect's file and nowhere else, but for what is named here, each with its reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bridge import dialects

ROOT = Path(__file__).parents[2]
VENDORS = sorted(dialects.known())
NAME = re.compile("|".join(VENDORS), re.IGNORECASE)

EXCEPTIONS: tuple[tuple[str, str, str], ...] = (
    # path or folder, vendors, reason
    ("bridge/api/", "voipbin", "the paths and bodies of the whole HTTP API are VoIPBIN's, for its clients"),
    ("bridge/api/twilio.py", "twilio", "the vendor's own HTTP routes"),
    ("bridge/api/twilio_changes.py", "twilio", "those with an effect"),
    ("bridge/api/twilio_media.py", "twilio", "those about audio"),
    ("bridge/api/twilio_shapes.py", "twilio", "the bodies of these routes"),
    ("bridge/api/models/twilio.py", "twilio", "the bodies of these routes"),
    ("bridge/api/telnyx.py", "telnyx", "the vendor's own HTTP route"),
    ("bridge/api/models/telnyx.py", "telnyx", "the bodies of this route"),
    ("bridge/api/plivo.py", "plivo", "the vendor's own HTTP route"),
    ("bridge/api/models/plivo.py", "plivo", "the bodies of this route"),
    ("bridge/api/yeastar.py", "yeastar", "the vendor's own HTTP routes"),
    ("bridge/api/models/yeastar.py", "yeastar", "the bodies of these routes"),
    ("bridge/api/flows.py", "voxology", "the vendor's own HTTP route, Dials/Connect"),
    ("bridge/api/models/flows.py", "voxology", "the body of this route"),
    ("bridge/api/models/calls.py", "voxology", "names the two syntaxes of flows"),
    ("bridge/api/table.py", "plivo telnyx twilio voxology yeastar", "the table of all routes"),
    ("bridge/api/admission.py", "yeastar", "the vendor's clients send a token in a query"),
    ("bridge/api/vendors.py", "plivo telnyx twilio yeastar", "the list of vendors with routes"),
    ("bridge/api/backend.py", "twilio voxology", "what the vendors' routes need"),
    ("bridge/api/server.py", "twilio", "what the vendor's routes need"),
    ("bridge/api/errors.py", "yeastar", "a reason that clients know by its name"),
    ("bridge/api/subscriptions.py", "yeastar", "raises the error with this reason"),
    ("bridge/app/application.py", "twilio", "hands the section of the vendor's routes to the API"),
    ("bridge/app/call_subsystem.py", "twilio voxology", "hands the vendors' sections to the API and to flows"),
    ("bridge/app/preload.py", "voipbin voxology", "imports the two syntaxes of flows"),
    ("bridge/cli/check.py", "twilio", "names the keys by which requests for documents are signed"),
    ("bridge/config/__init__.py", "twilio voxology", "exports the sections of vendors' routes"),
    ("bridge/config/flows.py", "voipbin voxology", "the values of a flow's key `syntax`"),
    (
        "bridge/config/vendors.py",
        "plivo telnyx twilio voxology yeastar",
        "the sections of vendors' routes, and reserved ids",
    ),
    ("bridge/flows/", "voipbin voxology", "the two syntaxes of flows, their variables (voipbin.*) and semantics"),
    ("bridge/control/voice_rate.py", "audiohook", "an object of Asterisk's channels has this name too"),
    ("bridge/streams/wanted_tracks.py", "audiohook", "an object of Asterisk's channels has this name too"),
    ("bridge/taps/", "audiohook", "an object of Asterisk's channels has this name too"),
    ("bridge/flows/twiml_verbs.py", "twilio", "the dialect of the streams that documents name"),
    ("bridge/flows/twiml_requests.py", "twilio", "the requests of this vendor to agents"),
    ("bridge/flows/status_callbacks.py", "twilio", "the requests of this vendor to agents"),
    ("bridge/flows/recording_callbacks.py", "twilio", "the requests of this vendor to agents"),
    ("bridge/flows/stream_callbacks.py", "twilio", "the requests of this vendor to agents"),
    ("bridge/flows/actions/twiml.py", "twilio", "the actions behind this vendor's documents"),
    ("bridge/workers/request_forwarding.py", "twilio yeastar", "paths of the vendors' routes"),
)


def allowed(path: str) -> set[str]:
    """Return the vendors that a file may name."""
    if Path(path).parent == Path("bridge/dialects") and Path(path).stem in VENDORS:
        return set(VENDORS)  # a dialect may say what it has in common with another
    return {
        vendor
        for place, vendors, _ in EXCEPTIONS
        if path == place or (place.endswith("/") and path.startswith(place))
        for vendor in vendors.split()
    }


def named(text: str) -> set[str]:
    """Return the vendors that are named in code, strings or comments."""
    return {name.lower() for name in NAME.findall(text)}


FILES = {str(path.relative_to(ROOT)): path for path in sorted((ROOT / "bridge").rglob("*.py"))}


@pytest.mark.parametrize("path", FILES)
def test_a_file_names_no_vendor_that_it_does_not_have_to(path: str) -> None:
    text = FILES[path].read_text()
    may = allowed(path)
    assert not [f"{path}:{at}: {line}" for at, line in enumerate(text.splitlines(), 1) if named(line) - may]


@pytest.mark.parametrize(("place", "vendors"), [(place, vendors) for place, vendors, _ in EXCEPTIONS])
def test_every_exception_is_needed(place: str, vendors: str) -> None:
    texts = [file.read_text() for path, file in FILES.items() if path == place or path.startswith(place)]
    assert set(vendors.split()) <= named("\n".join(texts))


def test_the_check_itself_can_fail() -> None:
    assert named("# as Twilio does\nimport yeastar_x") == {"twilio", "yeastar"}
    assert allowed("bridge/flows/options.py") == {"voipbin", "voxology"}
    assert allowed("bridge/streams/layout.py") == set()
    assert allowed("bridge/dialects/base.py") == set()
