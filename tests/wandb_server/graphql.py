"""Answers to the GraphQL operations that the client sends; what it sends beside these may be answered with {}."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from tests.wandb_server.store import Store, StoredRun

Variables = dict[str, Any]
ENTITY = "lab"


def answer(store: Store, base_url: str, operation: str, variables: Variables) -> dict[str, Any]:
    """The data of an operation; {} for one that is not known."""
    operations: dict[str, Callable[[], dict[str, Any]]] = {
        "Viewer": lambda: {"viewer": _VIEWER},
        "ServerFeaturesQuery": lambda: {"serverInfo": {"features": []}},
        "RunResumeStatus": lambda: _resume_status(store, variables),
        "UpsertBucket": lambda: _upsert_run(store, variables),
        "CreateRunFiles": lambda: _create_files(base_url, variables),
        "RunStoppedStatus": lambda: {"project": {"run": {"stopped": False}}},
        "MarkRunFilesUploaded": lambda: {"markRunFilesUploaded": {"success": True}},
        "UpsertView2": lambda: _upsert_view(store, variables),
    }
    return operations.get(operation, dict)()


_VIEWER = {
    "id": "VXNlcjox",
    "entity": ENTITY,
    "username": "tester",
    "email": "tester@example.org",
    "flags": "{}",
    "teams": {"edges": []},
}


def _upsert_run(store: Store, variables: Variables) -> dict[str, Any]:
    """Make a run, or change one that is named by its bucket's id."""
    name = variables.get("name") or _name_of(variables["id"])
    project = variables.get("project") or variables.get("model") or "uncategorized"
    inserted = name not in store.runs
    run = store.runs.setdefault(name, StoredRun(name, project))
    run.upserted(variables)
    return {"upsertBucket": {"bucket": _bucket(run), "inserted": inserted}}


def _name_of(bucket_id: str) -> str:
    return base64.b64decode(bucket_id).decode().split(":")[2]


def _bucket(run: StoredRun) -> dict[str, Any]:
    return {
        "id": base64.b64encode(f"Run:v1:{run.name}".encode()).decode(),
        "name": run.name,
        "displayName": run.display_name,
        "config": json.dumps(run.config),
        "sweepName": None,
        "project": {"id": "UHJvamVjdDox", "name": run.project, "entity": {"id": "RW50aXR5OjE=", "name": ENTITY}},
        "historyLineCount": len(run.history),
    }


def _resume_status(store: Store, variables: Variables) -> dict[str, Any]:
    run = store.runs.get(variables.get("name", ""))
    if run is None:
        return {"model": {"id": "UHJvamVjdDox", "name": variables.get("project"), "entity": None, "bucket": None}}
    bucket = _bucket(run) | {
        "eventsLineCount": len(run.events),
        "logLineCount": 0,
        "historyTail": json.dumps([json.dumps(row) for row in run.rows[-1:]]),
        "eventsTail": json.dumps([json.dumps(run.events[key]) for key in sorted(run.events)[-1:]]),
        "summaryMetrics": json.dumps(run.summary),
        "tags": run.tags,
        "wandbConfig": json.dumps({"t": 1}),
    }
    entity = {"id": "RW50aXR5OjE=", "name": ENTITY}
    return {"model": {"id": "UHJvamVjdDox", "name": run.project, "entity": entity, "bucket": bucket}}


def _create_files(base_url: str, variables: Variables) -> dict[str, Any]:
    run = variables["run"]
    files = [{"name": name, "uploadUrl": f"{base_url}/storage/{run}/{name}"} for name in variables["files"]]
    return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}


def _upsert_view(store: Store, variables: Variables) -> dict[str, Any]:
    store.views.append(variables)
    return {"upsertView": {"view": {"id": "Vmlldzox", "name": variables.get("name")}, "inserted": True}}
