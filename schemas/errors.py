"""What can be wrong with a record.

ContractError       a record breaks the contract; it becomes one dead letter with this reason
"""

from schemas.reasons import Reason

__all__ = ["ContractError"]


class ContractError(Exception):
    """A record cannot be read as what its topic holds.

    `detail` names the field and what was expected, never the value: it ends in headers and logs.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail
