"""Is there a way out of this machine, and may we use it? Services that runs talk to, and tokens for them.

Tells whether a token is there, never what it is.
"""

from __future__ import annotations

import netrc
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from launcher.cluster.findings import Finding, Level

TIMEOUT_S = 6.0


def services(variables: Mapping[str, str]) -> dict[str, str]:
    """URLs by name, of the services that runs may use; `variables` are those of the process that would."""
    return {
        "W&B": variables.get("WANDB_BASE_URL") or "https://api.wandb.ai",
        "Hugging Face": variables.get("HF_ENDPOINT") or "https://huggingface.co",
    }


def reachable(url: str, variables: Mapping[str, str]) -> str | None:
    """None if something answers there, through the proxy that the variables name; else why not."""
    proxies = {
        scheme: proxy
        for scheme in ("http", "https")
        if (proxy := variables.get(f"{scheme}_proxy") or variables.get(f"{scheme.upper()}_PROXY"))
    }
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    try:
        opener.open(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return None


def outside(variables: Mapping[str, str]) -> Iterator[Finding]:
    """Each service: reached or not. None of them is needed to train."""
    remedies = {
        "W&B": "runs go on without it; write tracking=offline, and `launcher sync RUN` later, or set cluster.proxy",
        "Hugging Face": "load models where there is a network, or set cluster.proxy",
    }
    for name, url in services(variables).items():
        why = reachable(url, variables)
        if why is None:
            yield Finding(Level.ok, f"{name} answers at {url}")
        else:
            yield Finding(Level.warning, f"{name} is not reached at {url} ({why})", remedies[name])


def tokens(variables: Mapping[str, str]) -> Iterator[Finding]:
    """Whether there is a key for each service."""
    url = services(variables)["W&B"]
    if variables.get("WANDB_API_KEY") or _in_netrc(urllib.parse.urlsplit(url).hostname or ""):
        yield Finding(Level.ok, "a W&B key is there")
    else:
        yield Finding(Level.warning, "there is no W&B key", "`wandb login`, or tracking=disabled")
    home = Path(variables.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    stored = Path(variables.get("HF_TOKEN_PATH") or home / "token")
    if variables.get("HF_TOKEN") or variables.get("HUGGING_FACE_HUB_TOKEN") or stored.is_file():
        yield Finding(Level.ok, "a Hugging Face token is there")
    else:
        yield Finding(Level.warning, "there is no Hugging Face token", "gated models need one: `hf auth login`")


def _in_netrc(host: str) -> bool:
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
