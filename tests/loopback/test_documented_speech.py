"""The script of docs/howto/speech.md works as a speech program, with a synthesizer that needs a file as Piper does."""

from __future__ import annotations

import io
import os
import re
import subprocess
import wave
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/howto/speech.md"
PIPER = """#!/bin/sh
# piper --model FILE --output_file FILE: speaks each line of its input, and writes the last one to the file.
while IFS= read -r line || [ -n "$line" ]; do printf '%s\\n' "$line" >> "$HOME/lines"; done
[ "$1 $2 $3" = "--model /usr/share/piper/en_US-lessac-medium.onnx --output_file" ] && cp "$HOME/speech.wav" "$4"
"""


def test_the_script_for_piper_speaks_a_text_of_several_lines_as_one(tmp_path: Path) -> None:
    (script,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", PAGE.read_text(), re.DOTALL)
    for name, text in (("say-piper", script), ("piper", PIPER)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o700)
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 22050, 0, "NONE", ""))
        file.writeframes(bytes(44100))
    done = subprocess.run(
        [tmp_path / "say-piper", "en_US-lessac-medium"],
        input=b"Hello.\nHow are you?\n",
        capture_output=True,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        check=True,
    )
    with wave.open(io.BytesIO(done.stdout)) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (22050, 22050)
    assert (tmp_path / "lines").read_text() == "Hello. How are you? \n"
    assert not list(tmp_path.glob("tmp.*")), "its file is removed"
