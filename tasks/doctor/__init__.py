"""What `manage.py doctor` and its page check, and what they say to do about it."""

from tasks.doctor.findings import Finding, Level, worst
from tasks.doctor.machine import examine_machine
from tasks.doctor.proxy import examine_proxy

__all__ = ["Finding", "Level", "examine_machine", "examine_proxy", "worst"]
