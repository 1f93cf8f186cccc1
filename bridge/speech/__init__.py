"""Speech and sounds: what is said in a call, and where it comes from."""

from bridge.speech.engine import Speech, SpeechFailed, Utterance
from bridge.speech.fetch import SoundFetcher, SoundUnavailable

__all__ = ["SoundFetcher", "SoundUnavailable", "Speech", "SpeechFailed", "Utterance"]
