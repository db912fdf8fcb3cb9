"""Removes videos: those that the source no longer lists, and those named in `tl-data remove`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tl_data.billing import Prices
from tl_data.errors import ExitCode, NotFound, SettingsError, TLDataError
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ALERTS, ASKED, ERRORS, RUNS, TABLES, TEXT_TABLES, VIDEOS
from tl_data.media.identity import canonical_url, is_url
from tl_data.pipeline.job import OUTPUTS, Job
from tl_data.pipeline.report import Report
from tl_data.pipeline.worklist import UnlistedVideo
from tl_data.session import Session


def delete_videos(lake: Lake, unlisted: Sequence[UnlistedVideo]) -> None:
    """Delete videos from all tables. Outputs of a video that another source key still refers to are kept."""
    keys = {row.source_key for row in unlisted}
    all_rows = lake.read(VIDEOS, ["source_key", "video_id", "content_key"]).to_pylist()
    remaining = [row for row in all_rows if row["source_key"] not in keys]
    by_content = (*(table.name for table in TEXT_TABLES), ALERTS.name, ASKED.name)
    for column, names in (("video_id", OUTPUTS), ("content_key", by_content)):
        kept_values = {row[column] for row in remaining}
        deleted = {getattr(row, column) for row in unlisted} - kept_values - {None}
        for name in names:
            declared = TABLES[name]
            if not deleted or not lake.exists(declared):
                continue
            batches = lake.batches(declared, list(dict.fromkeys([column, *declared.by])))
            groups = {
                tuple(row[name] for name in declared.by)
                for batch in batches
                for row in batch.to_pylist()
                if row[column] in deleted
            }
            lake.table(declared).replace_groups(declared.schema.empty_table(), list(groups))
    for declared in (ERRORS, VIDEOS):  # `videos` last: after a crash before it, the next run deletes again
        if lake.exists(declared):
            lake.table(declared).replace_groups(declared.schema.empty_table(), [(key,) for key in keys])


@dataclass
class RemovalReport:
    """The result of `tl-data remove`."""

    run_id: str
    removed: list[str] = field(default_factory=list)  # source keys of the rows removed from the tables
    forgotten: int = 0  # number of calls removed from the ledger
    deleted: list[str] = field(default_factory=list)  # ids of videos and assets deleted on the platform
    failures: list[str] = field(default_factory=list)  # messages about what the platform still has

    @property
    def exit_code(self) -> int:
        """0: all was removed. 1: the platform still has a video or an asset."""
        return ExitCode.FAILED if self.failures else ExitCode.DONE

    def lines(self) -> list[str]:
        """The report as text."""
        platform = f", {len(self.deleted)} deleted on the platform" if self.deleted else ""
        return [
            *(f"failed: {failure}" for failure in self.failures),
            f"{len(self.removed)} rows removed from the tables ({', '.join(self.removed)}), "
            f"{self.forgotten} calls forgotten by the ledger{platform}",
        ]


async def remove_videos(
    session: Session, job: Job, videos: Sequence[str], *, platform: bool = False
) -> RemovalReport:
    """Remove videos from the tables of a job, from the ledger and optionally from the platform.

    Args:
        videos: source keys, URLs, paths or video ids.
        platform: whether to delete them on the platform: in their index, and their assets.

    Raises:
        SettingsError: the tables have no such video; nothing was removed.
        LakeError, LedgerError: the tables or the ledger cannot be written.
    """
    lake, now = Lake(job.folder, job.format), datetime.now(UTC)
    signing = session.settings.signing_parameters
    columns = ["source_key", "url", "canonical_url", "content_key", "video_id", "index_id", "made"]
    columns += ["asset_id"]
    rows = lake.read(VIDEOS, columns).to_pylist()
    selected = {}  # source key -> row of `videos`
    for video in videos:
        names = {video, canonical_url(video, signing) if is_url(video) else video}
        matching = [
            row
            for row in rows
            if names & {row["source_key"], row["url"], row["canonical_url"], row["video_id"]}
        ]
        if not matching:
            raise SettingsError(
                f"{job.folder} has no video {video!r}: use its source_key, URL or video_id from the table "
                "videos"
            )
        selected.update({row["source_key"]: row for row in matching})
    report = RemovalReport(f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}")
    kept_ids = {row["video_id"] for row in rows if row["source_key"] not in selected}
    deleted_ids = {
        row["video_id"]: row["index_id"]
        for row in selected.values()
        if row["video_id"] and row["video_id"] not in kept_ids
    }
    undeleted: set[str] = set()  # ids of videos that the platform did not delete
    for video_id, index_id in deleted_ids.items() if platform else ():
        try:
            await session.client.delete_video(index_id, video_id)
        except NotFound:
            pass  # it was deleted earlier
        except TLDataError as error:
            report.failures.append(f"video {video_id} is still in the index {index_id}: {error}")
            undeleted.add(video_id)
            continue
        report.deleted.append(video_id)
    contents = {row["content_key"] for row in selected.values()} - {
        row["content_key"] for row in rows if row["source_key"] not in selected
    }
    contents |= {f"video:{video_id}" for video_id in deleted_ids}
    entries = [entry async for entry in session.ledger.entries() if entry.content_key in contents]
    if platform:
        assets = {row["asset_id"] for row in selected.values()}
        assets |= {entry.task_id for entry in entries if entry.operation == "asset"}
        # The asset of a video that is still in its index is kept: a later removal finds both or neither.
        kept_rows = [r for r in rows if r["source_key"] not in selected or r["video_id"] in undeleted]
        kept_contents = {row["content_key"] for row in kept_rows}
        kept_assets = {row["asset_id"] for row in kept_rows} | {
            entry.task_id
            for entry in entries
            if entry.operation == "asset" and entry.content_key in kept_contents
        }
        await _delete_assets(session, assets - kept_assets - {None}, report)
    for entry in entries:
        report.forgotten += await session.ledger.forget(entry.key)
    unlisted = [
        UnlistedVideo(row["source_key"], row["content_key"], row["video_id"], tuple(row["made"] or ()))
        for row in selected.values()
    ]
    delete_videos(lake, unlisted)
    report.removed = sorted(selected)
    run = Report(job.name, report.run_id, prices=Prices.free(), started_at=now, ended_at=datetime.now(UTC))
    run.removed = len(selected)
    lake.table(RUNS).replace_groups(rows_of(RUNS, [run.row()]))
    return report


async def _delete_assets(session: Session, assets: set[str | None], report: RemovalReport) -> None:
    """Delete assets: the uploaded files. Videos that were indexed from them stay in their indexes."""
    if await session.client.account_generation() != "today":
        return  # on an account of 2025 a video has no separate asset
    for asset_id in sorted(filter(None, assets)):
        try:
            await session.client.delete_asset(asset_id, force=True)
        except NotFound:
            continue  # it was deleted with its video, or earlier
        except TLDataError as error:
            report.failures.append(f"the asset {asset_id} was not deleted: {error}")
            continue
        report.deleted.append(asset_id)
