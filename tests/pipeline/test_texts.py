"""Texts of a job: one analysis a video, without an index where none is needed; the plan is the bill."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.conftest import Account
from tests.support import media
from tl_data import pipeline
from tl_data.errors import SettingsError
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ANNOTATIONS, CHAPTERS, CLIPS, ERRORS, HIGHLIGHTS, SUMMARIES, VIDEOS
from tl_data.ledger.accounting import FINDABLE
from tl_data.models import TEXT_MODELS
from tl_data.pipeline.job import OUTPUTS, Alerts, Source
from tl_data.pipeline.texts import Texts, windows_of


def test_the_plan_of_all_outputs_is_the_bill(account: Account) -> None:
    job = account.job(prompts=("", "In one short sentence."))
    planned = pipeline.plan(job)
    done = pipeline.run(job)
    assert (done.status, done.failed) == ("done", 0), done.lines()
    each = 1 + (1 if account.today else 4)  # indexing, and one analysis or two summaries, a gist, chapters
    assert planned.calls == done.calls == 4 * each
    assert planned.video_minutes == done.video_minutes
    analyzed = {n: u.video_us for n, u in planned.bill.operations.items()}
    assert analyzed == {n: u.video_us for n, u in done.bill.operations.items()}
    assert planned.price == pytest.approx(done.bill.price(done.prices, tokens=False), rel=1e-12)
    assert done.bill.output_tokens <= planned.output_tokens_at_most
    lake = Lake(job.folder)
    rows = lake.read(SUMMARIES).to_pylist()
    assert sorted(row["prompt"] for row in rows) == sorted(["", "In one short sentence."] * 4)
    assert all(row["summary"] for row in rows)
    assert len(set(lake.read(CHAPTERS, ["content_key"]).column(0).to_pylist())) == 4
    found = {row["content_key"]: row["video_id"] for row in lake.read(VIDEOS).to_pylist()}
    assert {row["content_key"]: row["video_id"] for row in rows} == found
    again = pipeline.plan(job)
    assert (again.unchanged, again.calls, again.price) == (4, 0, 0)


def test_an_output_that_is_added_later_is_asked_for_alone(account: Account) -> None:
    job = account.job(tables=("clips", "summaries"))
    pipeline.run(job)
    more = account.job(tables=("clips", "summaries", "chapters"))
    planned = pipeline.plan(more)
    done = pipeline.run(more)
    assert (planned.known, planned.calls, done.calls, done.submitted, done.failed) == (4, 4, 4, 0, 0)


def test_highlights_and_annotations_share_the_analysis(account: Account) -> None:
    job = account.job(tables=("summaries", "highlights", "annotations"))
    planned = pipeline.plan(job)
    done = pipeline.run(job)
    assert planned.calls == done.calls
    lake = Lake(job.folder)
    highlights = lake.read(HIGHLIGHTS).to_pylist()
    assert {row["highlight_number"] for row in highlights} >= {0}
    assert all(row["content_key"] and row["start_sec"] < row["end_sec"] for row in highlights)
    if not account.today:  # this account has no answers by a schema, so nothing is paid for them
        assert done.calls == 4 * 4  # indexing, summary, gist, highlights
        errors = lake.read(ERRORS).to_pylist()
        assert {(row["output"], row["code"]) for row in errors} == {("annotations", "not_supported")}
        return
    assert (done.calls, done.failed) == (4, 0), done.lines()
    annotations = lake.read(ANNOTATIONS).to_pylist()
    assert {row["kind"] for row in annotations} <= {"text", "object"}
    numbers = {k: [r["annotation_number"] for r in annotations if r["content_key"] == k] for k in
               {r["content_key"] for r in annotations}}  # fmt: skip
    assert all(sorted(found) == list(range(len(found))) for found in numbers.values())
    again = pipeline.plan(job)
    assert (again.unchanged, again.calls) == (4, 0)


def test_texts_alone_need_no_index_where_the_account_allows_it(account: Account) -> None:
    job = account.job(tables=("summaries", "chapters"))
    planned = pipeline.plan(job)
    before = account.sent()
    done = pipeline.run(job)
    spent = account.sent() - before
    assert (done.status, done.failed, done.calls) == ("done", 0, planned.calls), done.lines()
    assert planned.price == pytest.approx(done.bill.price(done.prices, tokens=False), rel=1e-12)
    lake = Lake(job.folder)
    rows = lake.read(VIDEOS).to_pylist()
    assert len(rows) == 4
    assert lake.read(SUMMARIES).num_rows == 4
    if not account.today:  # this account analyzes indexed videos alone
        assert (done.submitted, planned.calls) == (4, 4 * 4)
        assert all(row["video_id"] for row in rows)
        return
    assert (done.submitted, done.video_minutes, planned.calls) == (0, 0, 4)
    assert {row["video_id"] for row in rows} == {None}
    assert spent - 4 in (1, 2, 3, 4)  # an asset each, and batches
    again = pipeline.run(job)
    assert (again.unchanged, again.calls, again.exit_code) == (4, 0, 0)

    # Indexed later, the texts are not paid for again and get the id of the video.
    more = account.job(tables=("clips", "summaries", "chapters"))
    planned = pipeline.plan(more)
    assert planned.calls == 4
    done = pipeline.run(more)
    assert (done.submitted, done.calls, done.failed) == (4, 4, 0)
    ids = {row["content_key"]: row["video_id"] for row in lake.read(VIDEOS).to_pylist()}
    assert None not in ids.values()
    assert account.sent() - before - spent == 4 + 1  # the assets are there: four are indexed, in a new index
    for table, count in ((SUMMARIES, 4), (CHAPTERS, None)):
        texts = lake.read(table).to_pylist()
        assert {row["content_key"]: row["video_id"] for row in texts} == ids
        assert count is None or len(texts) == count
    assert set(lake.read(CLIPS, ["video_id"]).column(0).to_pylist()) == set(ids.values())


def test_a_file_on_this_machine_needs_no_index_for_its_texts(account: Account) -> None:
    path = str(account.folder / "0.mp4")
    job = account.job(urls=[path], tables=("summaries",))
    done = pipeline.run(job)
    assert (done.failed, done.submitted) == (0, 0 if account.today else 1), done.lines()
    assert Lake(job.folder).read(SUMMARIES).num_rows == 1
    assert Lake(job.folder).read(ERRORS).num_rows == 0


def test_a_killed_run_accounts_for_each_part_of_the_texts() -> None:
    texts = Texts.of([*OUTPUTS, "summaries:"])
    assert texts is not None
    assert {part.operation for part in texts.parts} <= set(FINDABLE)


def test_long_videos_are_analysed_in_windows() -> None:
    model = TEXT_MODELS["pegasus1.5"]
    hour = 3600.0
    assert [w.given for w in windows_of(2 * hour, model)] == [False]
    three = windows_of(3 * hour, model)
    assert [(w.start_sec, w.end_sec) for w in three] == [(0, 1.5 * hour), (1.5 * hour, 3 * hour)]
    assert len(windows_of(4 * hour, model)) == 2
    assert [w.given for w in windows_of(5 * hour, model)] == [False]  # refused, and said so
    assert [w.given for w in windows_of(3 * hour, TEXT_MODELS["pegasus1.2"])] == [False]
    assert [w.given for w in windows_of(None, model)] == [False]


def test_alerts_where_the_model_only_ranks(account: Account) -> None:
    """Every video has a best clip there: a job says how many it wants, or has each checked."""
    job = account.job(tables=("clips",))
    pipeline.run(job)
    questions = Source("urls", ("a gray picture", "a dog on a bicycle"), section="alerts")
    if not account.today:  # this model tells a confidence, and looks at whole videos only
        assert pipeline.alert(job.but(alerts=Alerts(questions))).run.calls == 2
        with pytest.raises(SettingsError):
            pipeline.plan_alert(job.but(alerts=Alerts(questions, verify=True)))
        return
    sent = account.sent()
    for wrong in (Alerts(questions), Alerts(questions, threshold="high", max_clips=3)):
        for ask in (pipeline.plan_alert, pipeline.alert):
            with pytest.raises(SettingsError):
                ask(job.but(alerts=wrong))
    assert account.sent() == sent

    checked = job.but(alerts=Alerts(questions, max_clips=3, verify=True))
    planned = pipeline.plan_alert(checked)
    report = pipeline.alert(checked)
    assert (planned.searches, planned.checks) == (2, 6)
    assert (report.run.failed, report.run.bill.operations["search"].calls) == (0, 2)
    checks = report.run.bill.operations["analyze"]
    assert 0 < checks.calls <= planned.checks
    assert checks.video_minutes <= checks.calls * 4 / 60 + 1e-9  # the moment is billed, not the video
    assert report.run.price <= planned.price + planned.price_of_checks
    assert len(report.found) <= checks.calls
    assert all(row["answer"] is not None for row in report.found)
    assert pipeline.alert(checked).run.calls == 0

    best = job.but(alerts=Alerts(Source("urls", ("something else",), section="alerts"), max_clips=1))
    assert len(pipeline.alert(best).found) == 1


def test_a_video_that_is_too_long_for_texts_has_its_clips(
    account: Account, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Ninety minutes: too long for an index of 2025, which has a model of texts, and for nothing of today."""
    folder = tmp_path_factory.mktemp("long")
    times = [n * 60.0 for n in range(91)]
    path = media.write(folder / "long.mp4", times=times, width=360, height=360, fps=1, audio=None)
    for tables in (("clips",), ("clips", "summaries")):
        fine = account.today
        planned = pipeline.plan(account.job(urls=[str(path)], tables=tables))
        assert planned.refused_count == (0 if fine else 1), planned.lines()
        assert planned.video_minutes == pytest.approx(90 if fine else 0, abs=0.5)
