"""Writes the page of a report."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from batches_jobs._cost import Cost, cost_of
from batches_jobs._prices import PriceList

from .answers import BINS, AnswerLengths
from .chunk_chart import chunk_charts
from .facts import ChunkLife, JobFacts, sum_usage
from .formats import count, dollars, duration, escape, moment, share, short
from .html import folded, legend, note, section, stack, table, tiles
from .style import STYLE
from .token_chart import token_charts

#: How many chunks and errors are listed.
_MOST_CHUNKS, _MOST_ERRORS = 1000, 20
#: From this number on, a tile has a short form of the number.
_LONG = 1000
_COST_EXTRA = "pip install 'batches-core[cost]'"


def report_page(name: str, facts: JobFacts, lengths: AnswerLengths | None, now: datetime) -> str:
    """Return the page as one string. `name` is that of the job, `now` the time of the report.

    Without `lengths`, the part on output tokens is left out.
    """
    try:
        prices = PriceList()
    except ModuleNotFoundError:
        prices = None
    end = facts.last if facts.status.is_finished else max(now, facts.last)
    parts = [
        _header(name, facts, prices, end),
        _chunks(facts, end),
        "" if lengths is None else _tokens(lengths),
        _outcomes(facts),
        _costs(facts, prices),
    ]
    title = escape(f"{name}: batch job")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<style>{STYLE}</style></head><body><main>{''.join(parts)}"
        f"<footer>Written on {moment(now)} UTC. All times are in UTC.</footer>"
        "</main></body></html>\n"
    )


def _state(facts: JobFacts) -> str:
    status = facts.status
    if status.is_finished:
        return "canceled and finished" if status.is_canceled else "finished"
    if status.paused is not None:
        return "paused"
    return "being canceled" if status.is_canceled else "not finished"


def _header(name: str, facts: JobFacts, prices: PriceList | None, end: datetime) -> str:
    counts, status = facts.counts, facts.status
    seconds = (end - facts.start).total_seconds()
    rows = counts.planned if counts.rows is None else counts.rows
    cost = _cost(facts, prices)
    tokens_in = sum(
        usage.input_tokens
        + usage.cache_read_tokens
        + usage.cache_write_5m_tokens
        + usage.cache_write_1h_tokens
        for usage in status.usage
    )
    tokens_out = sum(usage.output_tokens for usage in status.usage)
    items = [
        ("Rows", count(rows), "read so far" if counts.rows is None else ""),
        ("Answered", count(counts.answered), share(counts.answered, rows)),
        ("Failed", count(counts.failed), share(counts.failed, rows)),
        ("Cost", *_cost_words(cost)),
        ("Input tokens", short(tokens_in), count(tokens_in) if tokens_in >= _LONG else ""),
        ("Output tokens", short(tokens_out), count(tokens_out) if tokens_out >= _LONG else ""),
    ]
    if counts.lost:
        items.insert(3, ("Lost", count(counts.lost), share(counts.lost, rows)))
    if left := counts.open + rows - counts.planned:
        items.insert(3, ("Open", count(left), share(left, rows)))
    words = (
        f"Batch job {status.job_id}, {_state(facts)}. Begun {moment(facts.start)}, "
        f"{'ended' if status.is_finished else 'last change'} {moment(facts.last)} UTC, "
        f"{duration(seconds)} in all."
    )
    notes = []
    if status.paused is not None:
        notes.append(note(f"Paused ({status.paused.reason}): {status.paused.message}"))
    notes += [
        note(f"Chunk {doubt.chunk} is in doubt, with {count(doubt.requests)} rows: {doubt.reason}")
        for doubt in status.doubts[:5]
    ]
    return f'<h1>{escape(name)}</h1><p class="soft">{escape(words)}</p>' + "".join(
        [*notes, tiles(items)]
    )


def _cost(facts: JobFacts, prices: PriceList | None) -> Cost | None:
    return None if prices is None else cost_of(facts.status.usage, prices)


def _cost_words(cost: Cost | None) -> tuple[str, str]:
    if cost is None:
        return "not computed", "needs the extra cost"
    if cost.total is None:
        return f"over {dollars(cost.known)}", "some prices are unknown"
    return dollars(cost.total), "US dollars, batch prices"


# --- chunks over time ------------------------------------------------------------------------


def _chunks(facts: JobFacts, end: datetime) -> str:
    sent = [chunk for chunk in facts.chunks if chunk.spans]
    if not sent:
        return section("Chunks over time", "<p>No chunk was sent yet.</p>")
    names = [("k-waiting", "at the service"), ("k-download", "ended, being collected")]
    if any(span.kind == "lost" for chunk in sent for span in chunk.spans):
        names.append(("k-lost", "lost"))
    greatest = max(rows for _, rows in facts.in_flight)
    words = (
        f"{count(len(sent))} {'chunk was' if len(sent) == 1 else 'chunks were'} sent. At most "
        f"{count(greatest)} rows were in flight; the limit is {count(facts.limit)}."
    )
    listed = facts.chunks[:_MOST_CHUNKS]
    heads = ["#Chunk", "#Round", "#Rows", "State", "#Answered", "#Retried", "#Failed"]
    heads += ["Created", "#At the service", "Batch"]
    title = f"Chunks as a table ({count(len(facts.chunks))})"
    if len(listed) < len(facts.chunks):
        title = f"The first {count(len(listed))} of {count(len(facts.chunks))} chunks as a table"
    return section(
        "Chunks over time",
        f"<p>{escape(words)}</p>",
        legend(names),
        chunk_charts(facts, end),
        folded(title, table(title, heads, (_chunk_row(chunk, end) for chunk in listed))),
    )


def _chunk_row(chunk: ChunkLife, end: datetime) -> list[object]:
    first = chunk.spans[0] if chunk.spans else None
    return [
        chunk.number,
        chunk.round,
        chunk.rows,
        chunk.state,
        chunk.answered,
        chunk.retried,
        chunk.failed,
        "" if first is None else moment(first.start),
        "" if first is None else duration(((first.end or end) - first.start).total_seconds()),
        chunk.batch_id,
    ]


# --- output tokens ---------------------------------------------------------------------------


def _tokens(lengths: AnswerLengths) -> str:
    title = "Output tokens against max_tokens"
    if not lengths.answers:
        return section(title, "<p>There are no answers yet.</p>")
    mean = lengths.output_tokens / lengths.answers
    limits = ""
    if lengths.limits is not None:
        least, greatest = lengths.limits
        limits = f" with max_tokens of {count(least)}"
        limits += f" to {count(greatest)}" if greatest > least else ""
    words = (
        f"{count(lengths.answers)} answers{limits} have {mean:,.0f} output tokens on average. "
        f"{count(lengths.cut)} of them ({share(lengths.cut, lengths.answers)}) were cut at "
        "max_tokens."
    )
    parts = [f"<p>{escape(words)}</p>"]
    if lengths.unknown:
        parts.append(note(f"{count(lengths.unknown)} answers do not show their length or limit."))
    shares = [
        (f"{100 * at // BINS} to {100 * (at + 1) // BINS} %", complete, cut)
        for at, (complete, cut) in enumerate(zip(lengths.complete, lengths.truncated, strict=True))
    ]
    heads = ["Share of max_tokens", "#Not cut", "#Cut"]
    reasons = [
        (reason, number, share(number, lengths.answers))
        for reason, number in lengths.stop_reasons.items()
    ]
    return section(
        title,
        *parts,
        legend([("k-waiting", "not cut"), ("k-lost", "cut at max_tokens")]),
        token_charts(lengths),
        folded("Shares as a table", table("Answers by share of max_tokens", heads, shares)),
        table("Answers by stop reason", ["Stop reason", "#Answers", "#Share"], reasons),
    )


# --- outcomes and errors ---------------------------------------------------------------------


def _outcomes(facts: JobFacts) -> str:
    # The class, name and attribute of each outcome. The rare ones are left out if none is there.
    kinds = [
        ("answered", "answered", "answered"),
        ("retried", "sent again", "retried"),
        ("failed", "failed", "failed"),
        ("missing", "lost", "lost"),
        ("open", "open", "open"),
    ]
    shown = [
        kind
        for kind in kinds
        if kind[2] not in {"lost", "open"} or any(getattr(each, kind[2]) for each in facts.rounds)
    ]
    heads = ["Round", "#Sent", *(f"#{name.capitalize()}" for _, name, _ in shown), "Shares"]
    rows = [
        (
            "first attempt" if each.round == 0 else f"retry {each.round}",
            each.sent,
            *(getattr(each, field) for _, _, field in shown),
            stack([(cls, name, getattr(each, field)) for cls, name, field in shown]),
        )
        for each in facts.rounds
    ]
    parts = [
        legend([(cls, name) for cls, name, _ in shown]),
        table("Outcomes by round", heads, rows),
    ]
    if facts.errors:
        heads = ["Error", "#Seen", "#Final", "~An example"]
        listed = facts.errors[:_MOST_ERRORS]
        errors = [(each.reason, each.seen, each.final, each.example) for each in listed]
        parts.append(table("Commonest errors", heads, errors))
        if len(listed) < len(facts.errors):
            more = len(facts.errors) - len(listed)
            parts.append(f'<p class="soft">{count(more)} rarer errors are not listed.</p>')
    elif facts.rounds:
        parts.append('<p class="soft">No row had an error.</p>')
    return section("Outcomes", *parts)


# --- costs -----------------------------------------------------------------------------------


def _costs(facts: JobFacts, prices: PriceList | None) -> str:
    if not facts.status.usage:
        return section("Costs", "<p>Nothing was answered yet, so nothing was paid.</p>")
    heads = ["Model", "Round", "#Answers", "#Input", "#Output", "#Cache read", "#Cache write"]
    heads.append("#Cost")
    parts = []
    cost = _cost(facts, prices)
    if cost is None:
        parts.append(note(f"Costs need the extra cost: {_COST_EXTRA}"))
    else:
        parts += [note(warning) for warning in cost.warnings]
    parts.append(table("Costs by model and round", heads, _cost_rows(facts, prices, cost)))
    return section("Tokens and costs", *parts)


def _cost_rows(
    facts: JobFacts, prices: PriceList | None, cost: Cost | None
) -> Iterator[list[object]]:
    for number, usages in facts.usage.items():
        by_model: dict[str, list[object]] = {}
        summed = sum_usage(usages)
        of_round = None if prices is None else cost_of(summed, prices)
        for model in dict.fromkeys(usage.model for usage in summed):
            mine = [usage for usage in summed if usage.model == model]
            model_cost = None if of_round is None else of_round.by_model[model]
            by_model[model] = [
                model,
                "first attempt" if number == 0 else f"retry {number}",
                sum(usage.answers for usage in mine),
                sum(usage.input_tokens for usage in mine),
                sum(usage.output_tokens for usage in mine),
                sum(usage.cache_read_tokens for usage in mine),
                sum(usage.cache_write_5m_tokens + usage.cache_write_1h_tokens for usage in mine),
                _shown(of_round, model_cost),
            ]
        yield from by_model.values()
    usages = list(facts.status.usage)
    yield [
        "Total",
        "",
        sum(usage.answers for usage in usages),
        sum(usage.input_tokens for usage in usages),
        sum(usage.output_tokens for usage in usages),
        sum(usage.cache_read_tokens for usage in usages),
        sum(usage.cache_write_5m_tokens + usage.cache_write_1h_tokens for usage in usages),
        _shown(cost, None if cost is None else cost.total),
    ]


def _shown(cost: Cost | None, amount: Decimal | None) -> str:
    return "" if cost is None else dollars(amount)
