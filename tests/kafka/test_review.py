"""Reviewers' decisions on a real broker: each becomes one result or one requeue, and no more."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from consumers.settings import Settings
from router.audit import chained
from schemas.codec import read_dead_letter
from schemas.dead_letter import Pointer
from schemas.review import AuditLine, Decision
from tests.kafka.flow import Flow, Seen, Sent, flow, request

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]
