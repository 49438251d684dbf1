"""Platforms that are known by their host or by how their keys begin, and what either says about the other."""

from __future__ import annotations

from typing import Final, NamedTuple


class Platform(NamedTuple):
    """A platform: its host, the base URL of its OpenAI-compatible API, and how its keys begin (nothing: anyhow)."""

    name: str
    host: str
    base_url: str
    prefix: str = ""

    @property
    def begins(self) -> str:
        """How its keys begin, for a person; so short that it does not pass for a key itself."""
        return self.prefix.rstrip("-_")


PLATFORMS: Final = (
    Platform("OpenAI", "openai.com", "https://api.openai.com/v1", "sk-"),
    Platform("Anthropic", "anthropic.com", "https://api.anthropic.com/v1", "sk-ant-"),
    Platform("OpenRouter", "openrouter.ai", "https://openrouter.ai/api/v1", "sk-or-"),
    Platform("Groq", "groq.com", "https://api.groq.com/openai/v1", "gsk_"),
    Platform("Google", "googleapis.com", "https://generativelanguage.googleapis.com/v1beta/openai", "AIza"),
    Platform("Hugging Face", "huggingface.co", "https://router.huggingface.co/v1", "hf_"),
    Platform("Perplexity", "perplexity.ai", "https://api.perplexity.ai", "pplx-"),
    Platform("xAI", "x.ai", "https://api.x.ai/v1", "xai-"),
    Platform("NVIDIA", "nvidia.com", "https://integrate.api.nvidia.com/v1", "nvapi-"),
    Platform("Cerebras", "cerebras.ai", "https://api.cerebras.ai/v1", "csk-"),
    Platform("Fireworks", "fireworks.ai", "https://api.fireworks.ai/inference/v1", "fw_"),
    Platform("Mistral", "mistral.ai", "https://api.mistral.ai/v1"),
    Platform("DeepSeek", "deepseek.com", "https://api.deepseek.com/v1"),
    Platform("Together", "together.xyz", "https://api.together.xyz/v1"),
)
_SHARED: Final = "sk-"  # OpenAI's own, and that of many who followed


def of_host(host: str) -> Platform | None:
    """The platform whose host, or a host below it, this is."""
    name = host.lower().rstrip(".")
    return next((each for each in PLATFORMS if name == each.host or name.endswith(f".{each.host}")), None)


def of_key(key: str) -> Platform | None:
    """The platform whose keys alone begin like this."""
    return next((each for each in PLATFORMS if each.prefix not in ("", _SHARED) and key.startswith(each.prefix)), None)
