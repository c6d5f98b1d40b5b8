"""The toolkit that backends on SQL stand on: ``SqlBackend``, and what its seams are given to work with.

=================  ==========================================================================
``backend``        ``SqlBackend``: the contract, the seams, transactions and their errors
``tables``         the tables as SQLAlchemy sees them, and the types a plugin may choose
``work``           one transaction at work, handed to every function below
``enqueueing``     how jobs come in
``readiness``      which jobs the claim's index shows
``transitions``    the changes of state that jobs go through
``settling``       how attempts end
``jobs``           jobs looked at and changed from outside
``workers``        the registry and the inboxes
``locks``          named locks
``schedules``      schedules
``upkeep``         repair, statistics, history, reset
``migrations``     numbered steps of a plugin's schema
=================  ==========================================================================
"""

from minion_core.sql.backend import SqlBackend
from minion_core.sql.migrations import Migration
from minion_core.sql.tables import ColumnTypes, Tables
from minion_core.sql.work import Work

__all__ = ["ColumnTypes", "Migration", "SqlBackend", "Tables", "Work"]
