"""What a class in SageMaker Studio costs, as `cloud/classroom.yaml` sets it up: reckoned from the dated prices."""

from dataclasses import dataclass

from helpers.sagemaker.catalogue import (
    INSTANCES,
    PRICING_PAGE,
    SPACE_GB_MONTH,
    SPACES_PER_HOUR,
    SPACES_SOURCE,
    STORAGE_SOURCE,
)

HOURS_A_MONTH, DAYS_A_MONTH = 720, 30


@dataclass(frozen=True)
class Classroom:
    """A class of one day. Machine, storage and idle time are the template's defaults.

    hours: that each space runs. days: from creating the spaces to deleting them; storage is paid for all of them.
    job_hours: the longest that an attendee's training job may run, `max_runtime` of notebook 08.
    """

    attendees: int = 20
    hours: float = 8
    days: int = 2
    space: str = "ml.t3.large"
    space_gb: int = 5
    idle_minutes: int = 60
    job: str = "ml.trn1.2xlarge"
    job_hours: float = 1

    def costs(self) -> list[tuple[str, str, float]]:
        """(what, how it is reckoned, US dollars), each line for all attendees."""
        people, hour, job_hour = self.attendees, SPACES_PER_HOUR[self.space], INSTANCES[self.job].usd_per_hour
        gb, idle = people * self.space_gb, self.idle_minutes / 60
        spaces = f"{people} × {self.space} × "
        return [
            ("spaces, the day of the class", f"{spaces}{self.hours:g} h × ${hour:.2f}", people * self.hours * hour),
            ("spaces, until idle ones are stopped", f"{spaces}{idle:g} h × ${hour:.2f}", people * idle * hour),
            (
                f"storage of the spaces, {self.days} days",
                f"{gb} GB × {self.days}/{DAYS_A_MONTH} month × ${SPACE_GB_MONTH}",
                gb * self.days / DAYS_A_MONTH * SPACE_GB_MONTH,
            ),
            (
                "one training job each, at most",
                f"{people} × {self.job} × {self.job_hours:g} h × ${job_hour:.2f}",
                people * self.job_hours * job_hour,
            ),
        ]

    def forgotten(self) -> list[tuple[str, str, float]]:
        """The same for a month in which nobody takes the class down: with stopped spaces, and with running ones."""
        gb, hour = self.attendees * self.space_gb, SPACES_PER_HOUR[self.space]
        return [
            ("storage of stopped spaces, a month", f"{gb} GB × ${SPACE_GB_MONTH}", gb * SPACE_GB_MONTH),
            (
                "spaces that keep running, a month",
                f"{self.attendees} × {self.space} × {HOURS_A_MONTH} h × ${hour:.2f}",
                self.attendees * HOURS_A_MONTH * hour,
            ),
        ]


def cost_table(room: Classroom | None = None) -> str:
    """The costs of a class as Markdown, with where the prices are from."""
    room = room or Classroom()
    costs = room.costs()
    total = sum(dollars for *_, dollars in costs)
    lines = ["| what | how it is reckoned | US dollars |", "|---|---|---|"]
    lines += [f"| {what} | {how} | {dollars:,.2f} |" for what, how, dollars in costs]
    lines += [
        f"| **the class, {room.attendees} people** | without the jobs {total - costs[-1][2]:,.2f} | **{total:,.2f}** |"
    ]
    lines += [f"| *if forgotten:* {what} | {how} | {dollars:,.2f} |" for what, how, dollars in room.forgotten()]
    sources = f"spaces: {SPACES_SOURCE}; storage: {STORAGE_SOURCE}; training: {INSTANCES[room.job].source}"
    return "\n".join(lines) + f"\n\n*Prices: {sources}. Check them for your region: {PRICING_PAGE}*"


def spaces_table() -> str:
    """What an hour of a space costs by machine, as Markdown, with where the prices are from."""
    lines = ["| instance | US dollars an hour |", "|---|---|"]
    lines += [f"| {machine} | {dollars:.3f} |" for machine, dollars in SPACES_PER_HOUR.items()]
    sources = f"{SPACES_SOURCE}; storage, ${SPACE_GB_MONTH} for a GB and month: {STORAGE_SOURCE}"
    return "\n".join(lines) + f"\n\n*{sources}. Check them for your region: {PRICING_PAGE}*"
