"""Well-known providers of the API: their hosts, base URLs and key prefixes."""

from __future__ import annotations

from typing import Final, NamedTuple


class Provider(NamedTuple):
    """A provider: its host, the base URL of its OpenAI-compatible API, and the prefix of its keys, if they have one."""

    name: str
    host: str
    base_url: str
    prefix: str = ""

    @property
    def begins(self) -> str:
        """The prefix of its keys, for people; without the last hyphen, so that it is not masked as a key."""
        return self.prefix.rstrip("-_")


PROVIDERS: Final = (
    Provider("OpenAI", "openai.com", "https://api.openai.com/v1", "sk-"),
    Provider("Anthropic", "anthropic.com", "https://api.anthropic.com/v1", "sk-ant-"),
    Provider("OpenRouter", "openrouter.ai", "https://openrouter.ai/api/v1", "sk-or-"),
    Provider("Groq", "groq.com", "https://api.groq.com/openai/v1", "gsk_"),
    Provider("Google", "googleapis.com", "https://generativelanguage.googleapis.com/v1beta/openai", "AIza"),
    Provider("Hugging Face", "huggingface.co", "https://router.huggingface.co/v1", "hf_"),
    Provider("Perplexity", "perplexity.ai", "https://api.perplexity.ai", "pplx-"),
    Provider("xAI", "x.ai", "https://api.x.ai/v1", "xai-"),
    Provider("NVIDIA", "nvidia.com", "https://integrate.api.nvidia.com/v1", "nvapi-"),
    Provider("Cerebras", "cerebras.ai", "https://api.cerebras.ai/v1", "csk-"),
    Provider("Fireworks", "fireworks.ai", "https://api.fireworks.ai/inference/v1", "fw_"),
    Provider("Mistral", "mistral.ai", "https://api.mistral.ai/v1"),
    Provider("DeepSeek", "deepseek.com", "https://api.deepseek.com/v1"),
    Provider("Together", "together.xyz", "https://api.together.xyz/v1"),
)
_SHARED: Final = "sk-"  # OpenAI's prefix, which other providers use too


def provider_of_host(host: str) -> Provider | None:
    """Returns the provider with this host or a parent domain of it."""
    name = host.lower().rstrip(".")
    return next((each for each in PROVIDERS if name == each.host or name.endswith(f".{each.host}")), None)


def provider_of_key(key: str) -> Provider | None:
    """Returns the only provider whose keys begin like this one; else `None`."""
    return next((each for each in PROVIDERS if each.prefix not in ("", _SHARED) and key.startswith(each.prefix)), None)
