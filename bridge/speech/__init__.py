"""Speech and sounds to play into calls, and their sources."""

from bridge.speech.engine import Speech, SpeechFailed, Utterance
from bridge.speech.fetch import SoundFetcher, SoundUnavailable

__all__ = ["SoundFetcher", "SoundUnavailable", "Speech", "SpeechFailed", "Utterance"]
