"""Ends runs whose process is gone: `python -m pipelines.lost_runs`, before Dagster starts.

Dagster's launcher on one machine does not notice a process that was killed together with it, so
after a power failure such a run stays "started", and those queued after it wait.
"""

import os
from pathlib import Path

import dagster as dg

UNFINISHED = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
PID = "pid"
"""Key of the process id in the metadata of the event with which a run's process begins."""
CLOCK_SLACK = 2.0
"""Seconds by which a process may seem to begin after it said so."""


def end_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """Fail every run that has started and has no process any more; returns their ids.

    Call it where no other Dagster runs over this instance: a run that is just being started has
    no process either.
    """
    lost = []
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        if not _is_alive(instance, run.run_id):
            instance.report_run_failed(
                run, "The process of this run is gone: it was killed, or the machine stopped."
            )
            lost.append(run.run_id)
    return lost


def _is_alive(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether the process that last said it executes a run is there still."""
    for entry in reversed(instance.all_logs(run_id)):
        event = entry.dagster_event
        metadata = event.engine_event_data.metadata if event and event.is_engine_event else {}
        if PID in metadata:
            return _started_before(int(str(metadata[PID].value)), entry.timestamp + CLOCK_SLACK)
    return False


def _started_before(pid: int, moment: float) -> bool:
    """Whether there is a process of this id that began before a time, in seconds since 1970.

    One that began later has the id of a process that ended.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        boot = next(
            float(line.split()[1])
            for line in Path("/proc/stat").read_text().splitlines()
            if line.startswith("btime ")
        )
    except OSError:
        return False
    # After the name, which may hold spaces, the 20th field: proc_pid_stat(5).
    fields = text.rpartition(")")[2].split()
    if fields[0] == "Z":  # ended, but not waited for
        return False
    ticks = float(fields[19])
    return boot + ticks / os.sysconf("SC_CLK_TCK") < moment


def main() -> None:
    """End the lost runs of the instance that DAGSTER_HOME names."""
    with dg.DagsterInstance.get() as instance:
        lost = end_lost_runs(instance)
    if lost:
        print(f"Ended {len(lost)} runs whose process was gone")


if __name__ == "__main__":
    main()
