"""What a W&B server says of a run, asked directly, within seconds, whatever state the server is in. No torch.

The client's own login takes 10 s and its start 90 s to give up on a dead server, and it does not tell which steps
a run already has; two GraphQL questions do.
"""

from __future__ import annotations

import base64
import json
import netrc
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

PROBE_S = 3.0
"""How long a server may take to answer."""

NO_STEP = -1
"""Last step of a run that the server does not have."""

STRAY_VARIABLES = tuple(
    f"WANDB_{name}"
    for name in (
        "SWEEP_ID",
        "SWEEP_PARAM_PATH",
        "RUN_ID",
        "RESUME",
        "RUN_GROUP",
        "JOB_TYPE",
        "NAME",
        "TAGS",
        "NOTES",
        "MODE",
    )
)
"""What in the environment would make the client use another run than ours, or another mode."""

T = TypeVar("T")


class ServerError(Exception):
    """The server can't be used now; the text says why, in a few words for a user."""


@dataclass(frozen=True)
class WandbServer:
    """A server and the key for it."""

    url: str
    key: str = field(repr=False)

    def last_step(self, *, entity: str, project: str, run_id: str) -> int:
        """The greatest ``global_step`` that the server has of a run, NO_STEP for none.

        Raises:
            ServerError: It can't be reached, does not answer within PROBE_S, or does not take the key.
        """
        variables = {"entity": entity or None, "project": project, "name": run_id}
        return within(PROBE_S, lambda: self._last_step(variables))

    def default_entity(self) -> str:
        """The entity that runs of this key belong to where none is named; ServerError as in ``last_step``."""
        return str(within(PROBE_S, self._viewer)["entity"])

    def _viewer(self) -> dict[str, Any]:
        viewer = (self._ask("Viewer", _VIEWER, {}, PROBE_S).get("data") or {}).get("viewer")
        if not viewer:
            raise ServerError(f"{self.url} does not take the key")
        return dict(viewer)

    def _last_step(self, variables: Mapping[str, Any]) -> int:
        started = time.monotonic()
        self._viewer()
        left = max(0.1, PROBE_S - (time.monotonic() - started))
        answer = self._ask("RunResumeStatus", _RUN, variables, left)
        model = (answer.get("data") or {}).get("model") or {}
        return last_step(model.get("bucket") or {})

    def _ask(self, operation: str, query: str, variables: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        body = json.dumps({"operationName": operation, "query": query, "variables": variables}).encode()
        token = base64.b64encode(f"api:{self.key}".encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {token}"}
        request = urllib.request.Request(f"{self.url}/graphql", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            refused = "does not take the key" if error.code in (401, 403) else f"answers {error.code}"
            raise ServerError(f"{self.url} {refused}") from None
        except (OSError, ValueError):  # no route, refused, timed out; or not JSON: a login page of a proxy
            raise ServerError(f"{self.url} can't be reached") from None
        return answer if isinstance(answer, dict) else {}


_VIEWER = "query Viewer { viewer { id entity } }"

_RUN = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) {
    bucket(name: $name, missingOk: true) { summaryMetrics historyTail }
  }
}"""


def last_step(bucket: Mapping[str, Any]) -> int:
    """The greatest ``global_step`` in a run's summary and the newest rows of its history, NO_STEP without any."""
    summary = json.loads(bucket.get("summaryMetrics") or "{}")
    tail = [json.loads(row) for row in json.loads(bucket.get("historyTail") or "[]")]
    steps = [row.get("global_step") for row in [summary, *tail]]
    return max((int(step) for step in steps if isinstance(step, int | float)), default=NO_STEP)


def find_server(url: str) -> WandbServer:
    """The server at ``url`` with its key from WANDB_API_KEY or netrc; ServerError without a key."""
    key = os.environ.get("WANDB_API_KEY") or _netrc_key(urlsplit(url).netloc)
    if not key:
        raise ServerError(f"there is no key for {url} (WANDB_API_KEY, or `wandb login` once)")
    return WandbServer(url.rstrip("/"), key)


def _netrc_key(host: str) -> str:
    """The key that `wandb login` stored for a host and port; W&B's cloud is known by an older name too."""
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    names = (host, "api.wandb.ai") if host == "api.forge.coreweave.com" else (host,)
    try:
        logins = netrc.netrc(path)
    except (OSError, netrc.NetrcParseError):
        return ""
    found = [login for name in names if (login := logins.authenticators(name))]
    return found[0][2] or "" if found else ""


def within(seconds: float, work: Callable[[], T]) -> T:
    """The result of ``work()``; ServerError once ``seconds`` have gone.

    A socket's timeout starts anew with each packet and does not cover the search for the host's address, so the work
    goes on in a thread that nobody waits for.
    """
    outcome: queue.SimpleQueue[T | BaseException] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(work())
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=run, name="wandb-probe", daemon=True).start()
    try:
        result = outcome.get(timeout=seconds)
    except queue.Empty:
        raise ServerError(f"no answer within {seconds:.0f} s") from None
    if isinstance(result, BaseException):
        raise result
    return result
