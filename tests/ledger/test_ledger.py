"""The way of a call through its states, in one process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tl_data.billing import Bill, Charge, RunAccount, Units, recording
from tl_data.errors import (
    BadRequest,
    ConnectionFailed,
    LedgerError,
    NotAllowed,
    NotFound,
    ServerFailed,
    TaskFailed,
    TLDataError,
)
from tl_data.ledger.accounting import accounts_of, read_again
from tl_data.ledger.lease import RUN_LEASES
from tl_data.ledger.ledger import EXPORT, Ledger
from tl_data.ledger.models import Call, encode
from tl_data.ledger.records import INLINE, Journal
from tl_data.object_store import THREADS, Item, Storage
from tl_data.usage import about, current, receipt

CALL = Call("index", "content-1", {"index_id": "i"}, "model-1", content="https://x.org/v?sig=S3CRET&sv=1")


class Made:
    """A call that counts how often it is made."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.count = 0

    async def __call__(self) -> Any:
        self.count += 1
        await asyncio.sleep(0.01)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


NOTHING = Made(None)


def ledger_test(test: Callable[[Ledger], Awaitable[None]], path: Path) -> None:
    async def main() -> None:
        ledger = Ledger.open(str(path), settle=0.05)
        await test(ledger)
        await ledger.aclose()

    asyncio.run(main())


def files(path: Path) -> dict[str, str]:
    return {p.name: p.read_text("utf-8", "replace") for p in sorted(path.rglob("*")) if p.is_file()}


def test_an_answer_is_paid_once(tmp_path: Path) -> None:
    do = Made({"text": "a dog", "scores": [0.1, 1e-17, 2]})

    async def run(ledger: Ledger) -> None:
        with receipt() as usage:
            first = await ledger.once(CALL, do)
            again = await ledger.once(CALL, do)
        other = await Ledger.open(str(tmp_path)).once(CALL, do)
        assert first.result == again.result == other.result == do.answers[0]
        assert (first.reused, again.reused, other.reused) == (False, True, True)
        assert (usage.submitted, usage.reused, usage.content_key) == (1, 1, "content-1")
        assert do.count == 1

    ledger_test(run, tmp_path)


def test_callers_of_one_process_share_a_call(tmp_path: Path) -> None:
    do = Made(7)

    async def run(ledger: Ledger) -> None:
        entries = await asyncio.gather(*(ledger.once(CALL, do) for _ in range(50)))
        assert do.count == 1
        assert sum(not e.reused for e in entries) == 1

    ledger_test(run, tmp_path)


@pytest.mark.parametrize(
    "result",
    [
        None,
        "text",
        {"a": [1.5, None, {"b": "ü"}]},
        {"segments": [{"vector": [i / 3 for i in range(1024)]} for _ in range(5)]},
        pa.table({"vector": pa.array([[0.1, 0.2], None], pa.list_(pa.float32(), 2)), "at": [1.0, 2.0]}),
    ],
    ids=["null", "text", "nested", "large", "arrow"],
)
def test_results_come_back_as_they_were(tmp_path: Path, result: Any) -> None:
    async def run(ledger: Ledger) -> None:
        await ledger.once(CALL, Made(result))
        found = await Ledger.open(str(tmp_path)).get(CALL)
        assert found is not None
        assert found.result == result
        assert len(files(tmp_path)["done"]) < 2 * INLINE, "a large result stands beside its record"

    ledger_test(run, tmp_path)


def test_a_task_is_submitted_once_and_finished(tmp_path: Path) -> None:
    send = Made("task-1")

    async def run(ledger: Ledger) -> None:
        call = Call("index", "c", {"a": 1}, video_minutes=2.5)
        with receipt() as usage:
            assert (await ledger.submit(call, send, NOTHING)).task_id == "task-1"
        assert (usage.submitted, usage.video_minutes, usage.task_id) == (1, 2.5, "task-1")
        with receipt() as usage:
            found = await Ledger.open(str(tmp_path)).submit(call, send, NOTHING)
        assert (found.state, found.task_id, found.reused) == ("submitted", "task-1", True)
        assert (usage.submitted, usage.video_minutes, usage.reused) == (0, 0.0, 1)
        done = await ledger.finish(call, {"video_id": "v"}, video_minutes=2.4)
        late = await ledger.finish(call, {"video_id": "other"})
        assert done.result == late.result == {"video_id": "v"}
        found = await ledger.submit(call, send, NOTHING)
        assert (found.state, found.result, found.task_id, found.video_minutes) == (
            "done",
            {"video_id": "v"},
            "task-1",
            2.4,
        )
        assert send.count == 1

    ledger_test(run, tmp_path)


def test_a_task_that_failed_for_good_is_not_paid_again(tmp_path: Path) -> None:
    send = Made("task-1", "task-2")

    async def run(ledger: Ledger) -> None:
        await ledger.submit(CALL, send, NOTHING)
        await ledger.fail(CALL, TaskFailed("no picture in it", "task-1", "video_broken"))
        for _ in range(2):
            with pytest.raises(TaskFailed, match=r"no picture.*tl-data ledger forget \w{32}") as caught:
                await ledger.submit(CALL, send, NOTHING)
            assert (caught.value.code, caught.value.task_id) == ("video_broken", "task-1")
        assert send.count == 1
        assert await ledger.forget(CALL.key)
        assert not await ledger.forget(CALL.key)
        assert (await ledger.submit(CALL, send, NOTHING)).task_id == "task-2"

    ledger_test(run, tmp_path)


def test_an_error_of_asking_is_no_failure_of_the_task(tmp_path: Path) -> None:
    send = Made("task-1")

    async def run(ledger: Ledger) -> None:
        await ledger.submit(CALL, send, NOTHING)
        for error in (ConnectionFailed("reset"), ServerFailed("down"), NotAllowed("key expired")):
            assert (await ledger.fail(CALL, error)).state == "submitted"
        assert (await ledger.submit(CALL, send, NOTHING)).task_id == "task-1"

    ledger_test(run, tmp_path)


def test_a_failure_that_may_pass_is_tried_again_and_counted(tmp_path: Path) -> None:
    do = Made(ServerFailed("down", "internal", 500), NotAllowed("wrong key", None, 401), "at last")

    async def run(ledger: Ledger) -> None:
        with pytest.raises(ServerFailed):
            await ledger.once(CALL, do)
        failed = await ledger.get(CALL)
        assert failed is not None
        assert failed.failure is not None
        assert (failed.state, failed.attempt, failed.failure.retryable) == ("failed", 1, True)
        with pytest.raises(NotAllowed):
            await ledger.once(CALL, do)
        entry = await ledger.once(CALL, do)
        assert (entry.result, entry.attempt, do.count) == ("at last", 3, 3)

    ledger_test(run, tmp_path)


def test_a_task_the_ledger_does_not_know_is_found_on_the_platform(tmp_path: Path) -> None:
    """A send that failed may have arrived: look before sending again, but not at failed tasks."""
    send = Made(ServerFailed("cut off"), "task-9")

    async def run(ledger: Ledger) -> None:
        with pytest.raises(ServerFailed):
            await ledger.submit(CALL, send, NOTHING)
        found = await ledger.submit(CALL, send, Made("task-7"))
        assert (found.task_id, found.reused, send.count) == ("task-7", True, 1)
        await ledger.fail(CALL, NotFound("no such task"))
        assert (await ledger.submit(CALL, send, Made("task-7"))).task_id == "task-9"

    ledger_test(run, tmp_path)


def test_an_error_of_the_program_is_raised_as_it_is(tmp_path: Path) -> None:
    async def run(ledger: Ledger) -> None:
        with pytest.raises(ZeroDivisionError):
            await ledger.once(CALL, Made(ZeroDivisionError("oops")))
        assert (await ledger.once(CALL, Made(1))).attempt == 2

    ledger_test(run, tmp_path)


def test_what_cannot_be_kept_is_still_given(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    thing = object()

    async def run(ledger: Ledger) -> None:
        assert (await ledger.once(CALL, Made(thing))).result is thing

    ledger_test(run, tmp_path)
    assert "neither JSON nor Arrow" in caplog.text


def test_a_caller_that_leaves_does_not_stop_the_others(tmp_path: Path) -> None:
    do = Made(5)

    async def run(ledger: Ledger) -> None:
        leaving, staying = (asyncio.create_task(ledger.once(CALL, do)) for _ in range(2))
        await asyncio.sleep(0.005)
        leaving.cancel()
        assert (await staying).result == 5
        with pytest.raises(asyncio.CancelledError):
            await leaving

    ledger_test(run, tmp_path)


def test_the_last_caller_that_leaves_lets_go_of_the_claim(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def forever() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def run(ledger: Ledger) -> None:
        task = asyncio.create_task(ledger.once(CALL, forever))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1
        async with asyncio.timeout(5):
            assert (await Ledger.open(str(tmp_path)).once(CALL, Made(1))).attempt == 2

    ledger_test(run, tmp_path)


def test_keys(tmp_path: Path) -> None:
    base = Call("analyze", "c", {"prompt": "p", "temperature": 1.0, "none": None}, "m")
    assert base.key == Call("analyze", "c", {"temperature": 1, "prompt": "p"}, "m", content="x").key
    others = [
        Call("analyze2", "c", base.params, "m"),
        Call("analyze", "d", base.params, "m"),
        Call("analyze", "c", {"prompt": "q"}, "m"),
        Call("analyze", "c", base.params, "m2"),
        Call("analyze", "c", base.params, "m", scope="s"),
    ]
    assert len({base.key, *(c.key for c in others)}) == 6
    signed = [Call("embed", "c", {"url": f"https://x.org/a.png?X-Amz-Signature={n}"}).key for n in range(2)]
    assert signed[0] == signed[1]
    with pytest.raises(LedgerError, match="cannot be part of a ledger key"):
        _ = Call("analyze", "c", {"a": object()}).key


def test_no_secret_is_written(tmp_path: Path) -> None:
    url = "https://u:S3CRET@x.org/v.mp4?X-Amz-Signature=S3CRET&X-Amz-Credential=S3CRET"
    call = Call("embed", "c", {"image_url": url, "note": f"see {url}"}, content=url)

    async def main() -> None:
        ledger = Ledger.open(str(tmp_path), secrets=("tlk_S3CRET_KEY",))
        with pytest.raises(BadRequest):
            await ledger.once(call, Made(BadRequest(f"cannot fetch {url} with tlk_S3CRET_KEY", "c", 400)))
        await ledger.submit(CALL, Made("t"), NOTHING)

    asyncio.run(main())
    written = [p.read_text("utf-8") for p in tmp_path.rglob("*") if p.is_file()]
    assert len(written) == 4
    assert not any("S3CRET" in text for text in written)


def test_listing_and_export(tmp_path: Path) -> None:
    async def run(ledger: Ledger) -> None:
        for number in range(70):
            await ledger.once(Call("analyze", f"c{number}", {"n": number}), Made(number))
        await ledger.submit(CALL, Made("t"), NOTHING)
        with pytest.raises(BadRequest):
            await ledger.once(Call("gist", "c"), Made(BadRequest("no", "bad", 400)))
        await ledger.once(Call("search", "c", scope="session"), Made(1))
        assert len([e async for e in ledger.entries()]) == 72
        assert [e.task_id async for e in ledger.entries(state="submitted")] == ["t"]
        assert len([e async for e in ledger.entries(state="done", operation="analyze")]) == 70
        table = await ledger.export()
        assert table.schema == EXPORT
        assert table.num_rows == 72
        [failed] = table.filter(pa.compute.equal(table["state"], "failed")).to_pylist()
        assert (failed["error_class"], failed["error_code"], failed["retryable"]) == (
            "BadRequest",
            "bad",
            False,
        )
        shown = await ledger.show(Call("analyze", "c3", {"n": 3}).key)
        assert shown is not None
        assert shown.result == 3

    ledger_test(run, tmp_path)


def test_session_answers_expire_and_are_swept(tmp_path: Path) -> None:
    do = Made(1)

    async def run(ledger: Ledger) -> None:
        call = Call("search", "c", scope="one", keep=1.0)
        await ledger.once(call, do)
        await Ledger.open(str(tmp_path)).once(call, do)
        assert do.count == 1
        await ledger.once(Call("search", "c", scope="two", keep=1.0), do)
        assert do.count == 2
        await asyncio.sleep(4.1)
        await ledger.once(call, do)
        assert do.count == 3
        await ledger.sweep()
        assert len(list((tmp_path / "shared").iterdir())) == 1

    ledger_test(run, tmp_path)


class Held(Storage):
    """A folder in which one process is slow: what it does there waits until it may go on."""

    def __init__(self, url: str, *, listing: bool = False, claims: bool = False) -> None:
        super().__init__(url)
        self.listing, self.claims = listing, claims
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    async def below(self, prefix: str) -> AsyncIterator[Item]:
        if self.listing:
            self.reached.set()
            await self.go.wait()
        async for item in super().below(prefix):
            yield item

    async def create(self, path: str, body: bytes, *, durable: bool = False) -> bool:
        if self.claims and path.endswith(".claim"):
            self.reached.set()
            await self.go.wait()
        return await super().create(path, body, durable=durable)


async def next_slot(call: Call) -> None:
    """Wait until shared answers go into another folder."""
    before = call.folder
    await asyncio.sleep(call.keep - time.time() % call.keep + 0.02)
    assert call.folder != before


def test_a_call_that_ends_while_the_next_slot_is_entered_is_found(tmp_path: Path) -> None:
    """It is not answered when the answers are read, and no longer claimed when the claims are read."""
    call, made = Call("search", "c", scope="one", keep=4.0), []

    async def main() -> None:
        slow = Held(str(tmp_path), listing=True)
        first, second = Ledger.open(str(tmp_path)), Ledger(slow)

        async def do() -> int:
            made.append(call.folder)
            await slow.reached.wait()
            return 1

        one = asyncio.create_task(first.once(call, do))
        await next_slot(call)
        two = asyncio.create_task(second.once(call, do))
        assert (await one).result == 1
        slow.go.set()
        assert (await two).result == 1
        await asyncio.gather(first.aclose(), second.aclose())

    asyncio.run(main())
    assert len(made) == 1


def test_a_claim_that_is_written_after_the_slot_has_ended_gives_way(tmp_path: Path) -> None:
    call, made = Call("search", "c", scope="one", keep=4.0), []

    async def main() -> None:
        slow = Held(str(tmp_path), claims=True)
        first, second = Ledger(slow), Ledger.open(str(tmp_path))

        async def do() -> int:
            made.append(call.folder)
            slow.go.set()
            await asyncio.sleep(0.5)
            return len(made)

        one = asyncio.create_task(first.once(call, do))
        await slow.reached.wait()
        await next_slot(call)
        assert (await second.once(call, do)).result == 1
        assert (await one).result == 1
        await asyncio.gather(first.aclose(), second.aclose())

    asyncio.run(main())
    assert len(made) == 1


# ---- bad input ----------------------------------------------------------------------------------------


def record(path: Path, name: str) -> Path:
    [found] = (path / "calls").rglob(name)
    return found


@pytest.mark.parametrize(
    "damage", [b"", b'{"tl_ledger": 1, "oper', b"\x00" * 100, b"[]", b'{"tl_ledger": 1}']
)
def test_a_damaged_result_is_named_kept_and_not_silently_paid_again(tmp_path: Path, damage: bytes) -> None:
    do = Made("first", "second")

    async def run(ledger: Ledger) -> None:
        await ledger.once(CALL, do)
        record(tmp_path, "done").write_bytes(damage)
        with pytest.raises(LedgerError, match=r"cannot be read.*set aside as .*/aside/calls/.*run again"):
            await ledger.once(CALL, do)
        assert do.count == 1
        [aside] = [p for p in (tmp_path / "aside").rglob("*") if p.is_file()]
        assert aside.read_bytes() == damage
        assert (await ledger.once(CALL, do)).result == "second"

    ledger_test(run, tmp_path)


@pytest.mark.parametrize("name", ["done", "0001.submitted"])
def test_a_damaged_record_of_a_task_costs_nothing(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What the platform still knows is taken from there."""
    send = Made("task-1")

    async def run(ledger: Ledger) -> None:
        await ledger.submit(CALL, send, NOTHING)
        if name == "done":
            await ledger.finish(CALL, {"video_id": "v"})
        record(tmp_path, name).write_bytes(b'{"half": ')
        other = Ledger.open(str(tmp_path), settle=0.05)
        async with asyncio.timeout(20):
            entry = await ledger.submit(CALL, send, Made("task-1"))
        assert (entry.state, entry.task_id, send.count) == ("submitted", "task-1", 1)
        assert (await other.finish(CALL, 2)).result == 2

    with caplog.at_level(logging.WARNING):
        ledger_test(run, tmp_path)
    assert "set aside" in caplog.text


def test_a_damaged_arrow_result(tmp_path: Path) -> None:
    async def run(ledger: Ledger) -> None:
        await ledger.once(CALL, Made(pa.table({"a": [1]})))
        record(tmp_path, "*.arrow").write_bytes(b"ARROW1\0\0half")
        with pytest.raises(LedgerError, match=r"result\.arrow is damaged or missing"):
            await ledger.once(CALL, Made(1))

    ledger_test(run, tmp_path)


def test_one_damaged_record_does_not_spoil_the_listing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run(ledger: Ledger) -> None:
        await ledger.once(CALL, Made(1))
        await ledger.once(Call("analyze", "c"), Made(2))
        record(tmp_path, f"{CALL.key}/done").write_bytes(b"")
        assert [e.operation async for e in ledger.entries()] == ["analyze"]

    ledger_test(run, tmp_path)
    assert "set aside" in caplog.text


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    async def run(ledger: Ledger) -> None:
        await ledger.once(CALL, Made(1))
        path = record(tmp_path, "done")
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tl_ledger": 2}))
        before = files(tmp_path)
        with pytest.raises(LedgerError, match=r"newer tl_data \(format 2.*Upgrade"):
            await ledger.once(CALL, Made(2))
        with pytest.raises(LedgerError, match="newer tl_data"):
            await ledger.export()
        assert files(tmp_path) == before

    ledger_test(run, tmp_path)


def test_a_place_that_cannot_be_written() -> None:
    for url in ("/proc/nothing/ledger", "/dev/null/ledger", "nonsense://x"):
        with pytest.raises(LedgerError, match=f"the ledger cannot open {url}"):
            Ledger.open(url)


FILL = """
import asyncio, sys
from tl_data.ledger.ledger import Ledger
from tl_data.ledger.models import Call, encode
from tl_data.object_store import THREADS

async def answer():
    return "x" * 1000

async def main():
    ledger, made = Ledger.open(sys.argv[1]), 0
    try:
        while made < 1000:
            await ledger.once(Call("analyze", str(made)), answer)
            made += 1
    except Exception as error:
        print(type(error).__name__, error)
    print(made <= len([e async for e in ledger.entries(state="done")]) <= made + 1)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("az://media/ledger", r"no credentials were found\. Set AZURE_STORAGE_ACCOUNT_NAME and"),
        ("ftp://example.com/ledger", r"begins with s3://, gs:// or az://"),
        ("s3://", r"begins with s3://, gs:// or az:// and names a bucket"),
    ],
)
def test_an_address_that_cannot_be_used(url: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    with pytest.raises(LedgerError, match=words):
        Ledger.open(url)


def test_a_full_disk_stops_before_anything_more_is_paid(tmp_path: Path) -> None:
    """A file system of 200 KB of its own."""
    inside = (
        f'mount -t tmpfs -o size=200k tmpfs {tmp_path} && exec {sys.executable} -W error -c "$0" {tmp_path}/l'
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", inside, FILL], check=False, capture_output=True, text=True, timeout=60
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("this machine lets nobody mount a small file system")
    failed, counted = done.stdout.splitlines()
    assert failed.startswith(f"LedgerError the ledger cannot write {tmp_path}/l/calls/")
    assert "the disk is full. Free some space and run again" in failed
    assert counted == "True"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    ledger = Ledger.open(str(tmp_path))
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(LedgerError, match="no permission"):
            asyncio.run(ledger.once(CALL, Made(1)))
    finally:
        tmp_path.chmod(0o700)


def test_a_claim_from_a_clock_far_ahead_is_not_forever(tmp_path: Path) -> None:
    """An owner that died on another machine whose clock was a year ahead: watched, not believed."""
    far = Path(tmp_path)

    async def run(ledger: Ledger) -> None:
        folder = far / CALL.folder
        folder.mkdir(parents=True)
        claim = {
            "tl_ledger": 1,
            **CALL.described(),
            "lease": 0.5,
            "at": 4e9,
            "owner": {"id": "x", "machine": "y"},
        }
        path = folder / "0001.claim"
        path.write_text(json.dumps(claim))
        os.utime(path, (4e9, 4e9))
        async with asyncio.timeout(30):
            assert (await ledger.once(CALL, Made(1))).attempt == 2

    ledger_test(run, tmp_path)


def test_a_ledger_in_memory() -> None:
    async def main() -> None:
        ledger = Ledger.open("memory://")
        assert (await ledger.once(CALL, Made(1))).result == 1
        assert (await ledger.once(CALL, Made(2))).result == 1

    asyncio.run(main())


def test_failures_cross_threads_and_stay_themselves(tmp_path: Path) -> None:
    """Two loops in two threads, each with a ledger of its own: the waiter gets the failure of the owner."""
    raised: list[BaseException] = []
    send = Made(BadRequest("too dark", "video_dark", 400, "r-1"))

    def work() -> None:
        async def main() -> None:
            with pytest.raises(TLDataError) as caught:
                await Ledger.open(str(tmp_path)).once(CALL, send)
            raised.append(caught.value)

        asyncio.run(main())

    crew = [threading.Thread(target=work) for _ in range(4)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert send.count == 1
    assert {(type(e), e.code, e.request_id) for e in raised} == {(BadRequest, "video_dark", "r-1")}  # type: ignore[attr-defined]


@pytest.mark.parametrize("remote", [False, True])
def test_a_paid_answer_is_recorded_if_its_caller_is_cancelled(tmp_path: Path, remote: bool) -> None:
    """Cancelled while the answer waits for a store that is busy: nobody has to pay for it again."""

    async def run(ledger: Ledger) -> None:
        answered, free = asyncio.Event(), threading.Event()

        async def do() -> str:
            for _ in range(THREADS):
                ledger.storage._threads.submit(free.wait)
            answered.set()
            return "task-1"

        calling = asyncio.create_task(ledger.submit(CALL, do, NOTHING) if remote else ledger.once(CALL, do))
        await answered.wait()
        for act in (calling.cancel, free.set):
            for _ in range(20):  # steps until the record is on its way; until the cancelling has come to it
                await asyncio.sleep(0)
            act()
        with pytest.raises(asyncio.CancelledError):
            await calling
        entry = await ledger.get(CALL)
        assert entry is not None
        assert (entry.state, entry.task_id or entry.result) == ("submitted" if remote else "done", "task-1")

    ledger_test(run, tmp_path)


@pytest.mark.parametrize("key", ["", ".", "..", "../../x", "ab", "/", "no such key"])
def test_invalid_keys_show_and_remove_nothing(tmp_path: Path, key: str) -> None:
    async def run(ledger: Ledger) -> None:
        await ledger.once(CALL, Made("paid"))
        assert await ledger.show(key) is None
        assert not await ledger.forget(key)
        assert (await ledger.show(CALL.key)) is not None

    ledger_test(run, tmp_path)


def test_what_a_run_paid_is_in_its_book_and_in_the_records(tmp_path: Path) -> None:
    """Both say the same, and to whom it is billed; what fails is billed only if something was written."""

    async def write(error: Exception | None = None, tokens: int = 0) -> str:
        with about(2.0):
            current().output_tokens += tokens
            if error:
                raise error
            return "a text"

    def call(number: int, operation: str = "index", minutes: float = 2.0) -> Call:
        return Call(operation, f"content-{number}", {"index_id": "i"}, video_minutes=minutes)

    async def run(ledger: Ledger) -> None:
        with recording(RunAccount("one", Bill())) as one, receipt():
            for number in (1, 2):
                await ledger.submit(call(number), Made(f"task-{number}"), NOTHING)
            await ledger.finish(call(1), {"video_id": "v"}, video_minutes=2.25)
            await ledger.fail(call(2), TaskFailed("it does not play", "task-2"))
            await ledger.once(call(1, "summary"), lambda: write(tokens=7))
            useless = BadRequest("cut off", "answer_truncated", 200)
            for error, tokens in ((useless, 5), (BadRequest("no", "parameter_invalid", 400), 0)):
                with pytest.raises(BadRequest):
                    await ledger.once(call(tokens, "gist", 0.0), lambda e=error, t=tokens: write(e, t))
        with recording(RunAccount("two", Bill())) as two:
            await ledger.submit(call(3), Made("task-3"), NOTHING)
        await ledger.submit(call(4), Made("task-4"), NOTHING)  # outside of any run
        with recording(RunAccount("three", Bill())) as three:
            await ledger.finish(call(3), {"video_id": "w"}, video_minutes=1.5)
            await ledger.finish(call(4), {"video_id": "x"}, video_minutes=1.5)
        assert (one.bill.submitted, one.bill.video_minutes, one.bill.output_tokens) == (2, 2.25, 12)
        assert vars(one.bill.operations["analyze"]) == vars(Units(240_000_000, 2, 0, 12))
        assert (two.bill.submitted, two.bill.video_minutes) == (1, 2.0)
        assert (three.bill.submitted, three.bill.video_minutes) == (0, -0.5)
        accounts = await accounts_of(ledger.storage, ["one", "two", "three", "four"], 0.0)
        assert [account.bill for account in accounts.values()] == [one.bill, two.bill, three.bill, Bill()]
        assert not any(account.open for account in accounts.values())

    ledger_test(run, tmp_path)


def test_a_task_that_two_wrote_down_is_billed_once(tmp_path: Path) -> None:
    """By its slow owner, and by who took over from it."""

    async def run(ledger: Ledger) -> None:
        journal, charge = Journal(ledger.storage), Charge("one", "index", 60_000_000)
        await ledger.storage.write(f"{CALL.folder}/0001.claim", encode({**CALL.described(), "run": "one"}))
        [found] = (await accounts_of(ledger.storage, ["one"], 0.0)).values()
        assert [call.key for call, _ in found.open] == [CALL.key]
        for attempt in (1, 2):
            await journal.write_submitted(CALL, CALL.folder, attempt, "task-1", charge=charge)
        again = await read_again(ledger.storage, "one", found)
        assert (again.bill.submitted, again.bill.video_minutes, again.open) == (1, 1.0, [])

    ledger_test(run, tmp_path)


@pytest.mark.parametrize("operation", ["index", "highlight", "annotation"])
def test_a_task_that_appears_late_is_billed_to_the_run_that_sent_it(tmp_path: Path, operation: str) -> None:
    """Its request was never answered, and the platform showed nothing yet; the next run finds it."""
    lost = ConnectionFailed("no answer")
    lost.maybe_done = True
    call = Call(operation, "content-1", {"index_id": "i"}, video_minutes=2.0)

    async def run(ledger: Ledger) -> None:
        with recording(RunAccount("one", Bill())) as one, pytest.raises(ConnectionFailed):
            await ledger.submit(call, Made(lost), NOTHING)
        assert (one.unsettled, one.bill) == (1, Bill())
        [before] = (await accounts_of(ledger.storage, ["one"], 0.0)).values()
        assert [open_.key for open_, _ in before.open] == [call.key]
        with recording(RunAccount("two", Bill())) as two:
            found = await ledger.submit(call, Made("task-2"), Made("task-1"))
        assert (found.task_id, found.reused, two.bill, two.unsettled) == ("task-1", True, Bill(), 0)
        after = await read_again(ledger.storage, "one", before)
        billed = after.bill.operations["index" if operation == "index" else "analyze"]
        assert (after.bill.calls, billed.video_minutes, after.open) == (1, 2.0, [])

    ledger_test(run, tmp_path)


def test_a_task_is_not_billed_to_a_run_whose_accounts_are_closed(tmp_path: Path) -> None:
    """Its claim is the first, but it was decided that it sent nothing: nobody writes its row any more."""

    async def run(ledger: Ledger) -> None:
        for number, name in enumerate(("closed", "sender"), 1):
            claim = encode({**CALL.described(), "run": name, "lease": 0})
            await ledger.storage.write(f"{CALL.folder}/{number:04d}.claim", claim)
        for name in ("sender", "finder"):
            await ledger.storage.write(f"{RUN_LEASES}/{name}", encode({"operation": "run"}))
        with recording(RunAccount("finder", Bill())) as finder:
            found = await ledger.submit(CALL, Made("task-2"), Made("task-1"))
        assert (found.task_id, finder.bill) == ("task-1", Bill())
        accounts = await accounts_of(ledger.storage, ["closed", "sender"], 0.0)
        assert [(a.bill.submitted, a.open) for a in accounts.values()] == [(0, []), (1, [])]

    ledger_test(run, tmp_path)


def test_no_task_is_searched_after_a_refusal(tmp_path: Path) -> None:
    """The platform said no: the next run's task is its own."""
    call = Call("index", "content-1", {"index_id": "i"}, video_minutes=2.0)

    async def run(ledger: Ledger) -> None:
        with recording(RunAccount("one", Bill())) as one, pytest.raises(ServerFailed):
            await ledger.submit(call, Made(ServerFailed("busy", None, 503)), NOTHING)
        assert one.unsettled == 0
        with recording(RunAccount("two", Bill())) as two:
            await ledger.submit(call, Made("task-2"), NOTHING)
        assert two.bill.submitted == 1
        accounts = await accounts_of(ledger.storage, ["one", "two"], 0.0)
        assert [(a.bill.submitted, a.open) for a in accounts.values()] == [(0, []), (1, [])]

    ledger_test(run, tmp_path)
