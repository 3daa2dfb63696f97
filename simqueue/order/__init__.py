"""Orders of the queue, usable with every policy that starts whom it finds at the head."""

from simqueue.order.base import Line, Order
from simqueue.order.deadline import Edf, LeastLaxity
from simqueue.order.fcfs import Fcfs
from simqueue.order.priority import Priority
from simqueue.order.shortest_job import OracleSjf, Sjf
from simqueue.order.shortest_remaining import Srpt
from simqueue.order.vtc import Vtc

ORDERS = (Fcfs, Sjf, OracleSjf, Srpt, Priority, Edf, LeastLaxity, Vtc)

__all__ = ["ORDERS", "Edf", "Fcfs", "LeastLaxity", "Line", "OracleSjf", "Order", "Priority", "Sjf", "Srpt", "Vtc"]
