"""Control of calls: originating, acting on channels, playback, recording, DTMF."""
