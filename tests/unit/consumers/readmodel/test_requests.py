"""Requests as the read model files them: under their tenant, masked, found again in pages."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from consumers.readmodel.model import ReadModel
from consumers.readmodel.queries import Behind
from consumers.readmodel.requests import (
    RequestFilter,
    Routed,
    records_of,
    requests,
    routed_by,
    tenants_with,
)
from consumers.runtime.clients import Clients
from consumers.settings import KafkaSettings
from router.intake.admission import Admission, Proven
from schemas.base import Tier
from schemas.reasons import Reason
from schemas.tenancy import RequestKey
from tests.builders import NOON, a_record, a_request, a_route, an_assignment, an_escalation
from tests.tables import TOPICS, record_of, tables, take, take_in
from tests.unit.consumers.readmodel.test_projection import a_letter, a_line, a_result, said


def asked(offset: int, request_id: str | None = None, after: int = 0, **fields: Any) -> Any:
    made = a_request(id=request_id or f"r-{offset}", **fields)
    record = record_of(made, offset)
    record.timestamp += 1000 * after
    return record


def ids(
    connection: Connection, limit: int = 9, after: str | None = None, **wanted: Any
) -> list[str]:
    found = requests(connection, RequestFilter(**wanted), limit, after)
    return [one.key.id for one in found.requests]


def test_pages_are_the_newest_first_and_miss_none_where_instants_are_equal() -> None:
    with tables() as connection:
        take_in(connection, [asked(no, after=no // 3) for no in range(10)])
        seen: list[str] = []
        after: str | None = None
        while True:
            page = requests(connection, RequestFilter(), 2, after)
            seen += [one.key.id for one in page.requests]
            if (after := page.after) is None:
                break
        assert seen == [f"r-{no}" for no in (9, 8, 7, 6, 5, 4, 3, 2, 1, 0)]
        assert ids(connection, after="no place") == seen[:9]
        assert ids(connection, after="9" * 40 + " r-1 x") == seen[:9]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"id": "r-1"}, ["r-1"]),
        ({"id": "r"}, []),
        ({"conversation": "talk-1"}, ["r-2", "r-1"]),
        ({"user": "ann"}, ["r-1"]),
        ({"text": "PRINTER"}, ["r-2"]),
        ({"text": "%"}, []),
        ({"text": "\0"}, []),
        ({"tenant": "acme"}, ["r-3"]),
        ({"tenants": {"acme"}}, ["r-3"]),
        ({"tenants": {"acme"}, "tenant": "default"}, []),
        ({"tenants": frozenset()}, []),
    ],
)
def test_a_request_is_found_by_what_it_says(wanted: dict[str, Any], found: list[str]) -> None:
    with tables() as connection:
        take_in(
            connection,
            [
                asked(1, after=1, conversation_id="talk-1", user="ann"),
                asked(2, after=2, conversation_id="talk-1", input="My printer is out of ink"),
                asked(3, after=3, tenant="acme"),
            ],
        )
        assert ids(connection, **wanted) == found


def test_a_figure_leads_to_the_requests_behind_it() -> None:
    """Those with a call of the group, the outcome and the time, once each."""
    rejected: dict[str, Any] = {"outcome": "rejected", "reason": Reason.REFUSED}
    told: list[Any] = [a_request(id=f"r-{hour}") for hour in range(5)]
    told += [
        a_line(
            no,
            f"r-{hour}",
            started_at=NOON + timedelta(hours=hour),
            **(rejected if no == 1 else {}),
        )
        for hour in range(4)
        for no in (1, 2)
    ]
    told.append(a_line(1, "r-4", started_at=NOON, tier=Tier.PREMIUM))
    told.append(a_request(id="r-5", tenant="acme"))
    told.append(a_line(1, "r-5", "acme", started_at=NOON + timedelta(hours=2)))
    since, until = NOON + timedelta(hours=1), NOON + timedelta(hours=3)
    with tables(told) as connection:
        low = Behind("called", {"tier": "low"}, since, until)
        assert ids(connection, behind=low) == ["r-5", "r-2", "r-1"]
        assert ids(connection, behind=low, tenants={"acme"}) == ["r-5"]
        assert ids(connection, behind=low, tenant="default") == ["r-2", "r-1"]
        assert ids(connection, behind=Behind("refused", {}, since, until)) == ["r-2", "r-1"]
        assert ids(connection, behind=Behind("refused", {}, NOON)) == ["r-3", "r-2", "r-1", "r-0"]
        assert ids(connection, behind=Behind("ended", {"tier": "premium"}, NOON)) == ["r-4"]
        assert ids(connection, behind=Behind("completed", {}, NOON)) == []
        assert ids(connection, since=NOON - timedelta(days=9), until=NOON - timedelta(days=8)) == []


@pytest.mark.parametrize("seen", [{}, {"tenants": {"acme", "default"}}, {"user": "ann"}])
def test_words_are_looked_for_in_so_many_requests_at_a_time(seen: dict[str, Any]) -> None:
    """A page says since when it has looked, and the next one goes on there; none is missed."""
    with tables() as connection:
        texts = {2: "a rare word", 6: "a RARE one"}
        take_in(
            connection,
            [
                asked(no, after=no // 2, input=texts.get(no, "x"), user="ann", tenant=tenant)
                for no in range(10)
                for tenant in ("acme" if no % 2 else "default",)
            ],
        )
        wanted = RequestFilter(text="rare", **seen)
        pages, after = [], None
        while True:
            page = requests(connection, wanted, 5, after, most_searched=3)
            pages.append(([one.key.id for one in page.requests], page.until is not None))
            if (after := page.after) is None:
                break
        assert pages == [([], True), (["r-6"], True), (["r-2"], True), ([], False)]


def test_people_with_several_tenants_page_through_all_of_theirs() -> None:
    with tables() as connection:
        names = ("acme", "globex", "initech")
        take_in(connection, [asked(no, after=no, tenant=names[no % 3]) for no in range(9)])
        wanted = RequestFilter(tenants={"acme", "initech"})
        page = requests(connection, wanted, 4)
        assert [one.key.id for one in page.requests] == ["r-8", "r-6", "r-5", "r-3"]
        rest = requests(connection, wanted, 4, page.after)
        assert [one.key.id for one in rest.requests] == ["r-2", "r-0"]
        assert rest.after is None


def test_what_pages_hide_is_neither_kept_nor_found() -> None:
    card, mail = "4929 1836 5527 1904", "hidden.person@example.com"
    with tables() as connection:
        take_in(connection, [asked(1, user=mail, input="x " * 140 + f"my card is {card}")])
        [found] = requests(connection, RequestFilter(), 9).requests
        assert found.user == "[email]"
        assert "4929" not in found.words
        assert len(found.words) <= 300
        assert ids(connection, user=mail) == []
        assert ids(connection, text="4929") == []


def test_the_first_record_under_an_id_is_the_request() -> None:
    first, again = asked(5, "r-1", input="first"), asked(4, "r-1", after=9, input="again")
    again.partition = 0
    for order in ([first, again], [again, first]):
        with tables() as connection:
            for record in order:
                take_in(connection, [record])
            [found] = requests(connection, RequestFilter(), 9).requests
            assert (found.words, str(found.place)) == ("first", "llm.intake-1-5")


def test_a_request_is_filed_where_intake_files_it() -> None:
    """Whatever its record claims: who claims to be another tenant shows that one nothing."""
    admission = Admission(topics={"llm.intake.acme": Proven("acme")})
    clients = Clients(KafkaSettings(intakes={"acme": {"tenant": "acme"}}))
    told = [
        a_record(b'{"id": "own", "input": "x"}', topic="llm.intake.acme", offset=1),
        a_record(b'{"id": "forged", "tenant": "acme", "input": "x"}', offset=2),
        a_record(b'{"id": "brief.x", "input": "x"}', offset=3),
        a_record(b'{"id": "hidden", "tenant": "_unknown", "input": "x"}', offset=4),
        a_record(b"{ no json", offset=5),
        a_record(b'{"id": "plain", "input": "x"}', offset=6),
    ]
    with tables() as connection:
        ReadModel(None, clients, admission=admission).take_in(connection, told, {})  # type: ignore[arg-type]
        found = requests(connection, RequestFilter(), 9).requests
        assert {str(one.key) for one in found} == {
            "own of acme",
            "forged of _unknown",
            "hidden of _unknown",
            "plain",
        }


def test_every_record_of_a_request_is_found_again() -> None:
    told = [
        a_request(id="r-1"),
        an_assignment(id="r-1", tenant="default", routes=[a_route()]),
        a_line(1, outcome="started", reason=None),
        a_line(1),
        an_escalation(id="r-1", tenant="default"),
        a_letter(),
        a_result(1),
        said("edited"),
        said("edited", "r-1", "acme"),
        a_line(1, "r-2"),
    ]
    with tables() as connection:
        take(connection, told)
        found = records_of(connection, RequestKey("default", "r-1"), 99)
        assert sorted(written.place.partition for written in found) == [*range(8)]
        assert len(records_of(connection, RequestKey("default", "r-1"), 3)) == 3
        # Whoever sends feedback may be wrong about whose request it is.
        assert tenants_with(connection, "r-1", [TOPICS.feedback], None) == ["default"]
        assert tenants_with(connection, "r-1", (), None) == ["acme", "default"]
        assert tenants_with(connection, "r-1", (), {"acme", "\0"}) == ["acme"]
        assert tenants_with(connection, "\0", (), None) == []


def routed(offset: int, rule: str, request_id: str, tenant: str = "acme", after: int = 0) -> Any:
    sent = an_assignment(id=request_id, tenant=tenant, routes=[a_route(), a_route(rule=rule)])
    return record_of(sent, offset, timestamp=int((NOON.timestamp() + after) * 1000))


def test_a_rule_did_what_its_requests_of_a_span_say() -> None:
    """A request that came twice counts once; the last route is why a request is where it is."""
    day = 24 * 3600
    with tables() as connection:
        take_in(
            connection,
            [
                routed(1, "upset_customer", "early", after=-1),
                routed(2, "upset_customer", "r-1"),
                routed(3, "upset_customer", "r-1", after=1),
                routed(4, "upset_customer", "r-2", "globex", after=2),
                routed(5, "upset_customer", "r-3", after=3),
                routed(6, "task triage", "r-4", after=day),
                record_of(an_escalation(id="r-5", tenant="acme", routes=[a_route()]), 7),
            ],
        )
        r_1, r_3 = RequestKey("acme", "r-1"), RequestKey("acme", "r-3")
        assert routed_by(connection, NOON, {"acme"}, 3) == [
            Routed("task triage", 1, [RequestKey("acme", "r-4")]),
            Routed("upset_customer", 2, [r_3, r_1]),
        ]
        assert routed_by(connection, NOON, None, 1) == [
            Routed("task triage", 1, [RequestKey("acme", "r-4")]),
            Routed("upset_customer", 3, [r_3]),
        ]
        assert routed_by(connection, NOON, set(), 3) == []
