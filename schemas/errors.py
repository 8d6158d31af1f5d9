"""Everything that Tierline raises, as one tree.

TierlineError                  its message says what is wrong and where, its advice what to do next
├── ContractError              a record breaks the contract; it becomes one dead letter
├── RouterError                something that people write cannot be used
│   ├── PolicyError            the policy; every problem is listed with its line
│   └── PromptError            a prompt contract or variant
├── SchemaError                a JSON Schema that is not used
│   └── UnusableSchemaError    it is no JSON Schema, or not self-contained
├── OverBudgetError            a template of a prompt runs too long or writes too much
├── ReleaseError               a release cannot be applied by this process
├── ActRefusedError            an act about a release of the policy is not allowed
├── SigningError               acts cannot be signed, or their signatures not be checked
├── UserError                  something about the command that its user can change
├── InvoiceError               a provider's export cannot be read; it says where
├── BrokerError                our own broker cannot be started, or has ended
├── KafkaUnreachableError      no broker answers at the address given
├── StageError                 a stage cannot go on
├── RetentionError             records were deleted before anybody had read them
├── NotYetError                a record cannot be decided about before something else is here
├── FencedError                another process takes the same partition again and again
├── PartitionLostError         somebody else owns the partition now
├── UnbookedError              the process ends with paid calls that Kafka has not taken
├── FailpointError             the failpoint that was asked for cannot be had
├── OutsideError               a test would have reached beyond this machine
├── TelemetryError             a setting of telemetry cannot be followed
├── ProviderSettingsError      a provider cannot be used as it is set up
├── ProxyRefusedError          the egress proxy has refused the connection
├── UnreadableError            a reply is not in its provider's format
├── CaseError                  an act on a case is refused
│   ├── UnknownCaseError       there is no such case
│   ├── AlreadyDecidedError    somebody decided on it, or its request has gone on
│   ├── LeaseLostError         the lease has ended, or somebody else has it
│   ├── StaleError             the case has changed since it was read
│   ├── UnseenError            other answers would be approved than those that were seen
│   ├── UsedIdError            the decision's id is another decision's
│   └── UndoTooLateError       the decision is being carried out
├── UnknownRequestError        there is no such request
├── JobRunningError            a job of theirs runs already
├── ImpossibleError            a decision cannot be carried out
├── NotSentError               Kafka has not acknowledged a decision in time
├── StoreAwayError             the console's database does not answer now
├── OtherTopicsError           the store was made from other topics
├── IncompleteError            the figures are not complete now
├── StoreUnusableError         the console's database cannot be opened, or is none of ours
├── NeedsSignInError           nobody knows who calls the console
└── SignInRefusedError         a sign-in did not come to its end
"""

from schemas.reasons import Reason

__all__ = ["ContractError", "TierlineError"]


class TierlineError(Exception):
    """What is wrong, and where. A command that ends with it prints the message and no traceback."""

    #: The exit code of a command that ends with it.
    exit_code = 1
    #: What to do next, where the message does not say so itself.
    advice = ""

    def __init__(self, *words: object, advice: str = "") -> None:
        super().__init__(*words)
        self.advice = advice or self.advice

    @property
    def for_people(self) -> str:
        """The message with what to do next."""
        return f"{self}: {self.advice}" if self.advice else str(self)


class ContractError(TierlineError):
    """A record cannot be read as what its topic holds.

    `detail` names the field and what was expected, never the value: it ends in headers and logs.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail
