"""What arrived at the server, by run."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image


@dataclass
class StoredRun:
    """A run as the server knows it."""

    name: str
    project: str
    display_name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Rows by their offset in the stream: a row that is sent again does not count twice."""
    events: dict[int, dict[str, Any]] = field(default_factory=dict)
    """System metrics."""
    files: dict[str, bytes] = field(default_factory=dict)
    streams: int = 0
    complete: bool = False
    exit_code: int | None = None
    preempting: bool = False

    @property
    def rows(self) -> list[dict[str, Any]]:
        """History in order."""
        return [self.history[offset] for offset in sorted(self.history)]

    @property
    def steps(self) -> list[int]:
        """``global_step`` of each row that has one, in order."""
        return [row["global_step"] for row in self.rows if "global_step" in row]

    def value(self, key: str) -> Any:
        """A setting, as the dashboard shows it."""
        return self.config[key]["value"]

    def column(self, key: str) -> dict[int, Any]:
        """Values of a metric by ``global_step``."""
        return {row["global_step"]: row[key] for row in self.rows if key in row and "global_step" in row}

    def image(self, path: str) -> np.ndarray:
        """Pixels of a PNG that was uploaded."""
        return np.asarray(Image.open(io.BytesIO(self.files[path])))

    def upserted(self, variables: dict[str, Any]) -> None:
        """Take what an UpsertBucket says; what it leaves out stays."""
        self.display_name = variables.get("displayName") or self.display_name
        self.group = variables.get("groupName") or self.group
        self.job_type = variables.get("jobType") or self.job_type
        self.tags = variables.get("tags") or self.tags
        if variables.get("config"):
            self.config |= json.loads(variables["config"])
        if variables.get("summaryMetrics"):
            self.summary |= json.loads(variables["summaryMetrics"])

    def streamed(self, body: dict[str, Any]) -> None:
        """Take a file_stream request."""
        self.streams += 1
        for name, chunk in (body.get("files") or {}).items():
            lines = {chunk["offset"] + number: line for number, line in enumerate(chunk["content"])}
            if name == "wandb-history.jsonl":
                self.history |= {number: json.loads(line) for number, line in lines.items()}
            elif name == "wandb-events.jsonl":
                self.events |= {number: json.loads(line) for number, line in lines.items()}
            elif name == "wandb-summary.json":
                self.summary = json.loads(chunk["content"][-1])
        self.complete = body.get("complete", self.complete)
        self.exit_code = body.get("exitcode", self.exit_code)
        self.preempting = self.preempting or bool(body.get("preempting"))


@dataclass
class Store:
    """Everything that arrived."""

    runs: dict[str, StoredRun] = field(default_factory=dict)
    views: list[dict[str, Any]] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    """Every body, for tests that look for what must not be sent."""
    lock: threading.RLock = field(default_factory=threading.RLock)
