from connector.config import Config as Config
from connector.connector import Connector as Connector
from connector.errors import (
    APIConnectionError as APIConnectionError,
)
from connector.errors import (
    APITimeoutError as APITimeoutError,
)
from connector.errors import (
    AuthenticationError as AuthenticationError,
)
from connector.errors import (
    BadRequestError as BadRequestError,
)
from connector.errors import (
    BudgetError as BudgetError,
)
from connector.errors import (
    ConfigError as ConfigError,
)
from connector.errors import (
    ConnectorError as ConnectorError,
)
from connector.errors import (
    CutError as CutError,
)
from connector.errors import (
    FatalError as FatalError,
)
from connector.errors import (
    NotFoundError as NotFoundError,
)
from connector.errors import (
    OutageError as OutageError,
)
from connector.errors import (
    QuotaError as QuotaError,
)
from connector.errors import (
    RateLimitError as RateLimitError,
)
from connector.errors import (
    RecordError as RecordError,
)
from connector.errors import (
    ReplyError as ReplyError,
)
from connector.errors import (
    RetryableError as RetryableError,
)
from connector.errors import (
    ServerError as ServerError,
)
from connector.errors import (
    StorageError as StorageError,
)
from connector.errors import (
    TemplateError as TemplateError,
)
from connector.records import Checkpoint as Checkpoint
from connector.records import Outcome as Outcome
from connector.records import Record as Record
from connector.records import Status as Status
from connector.streams import Diagnosis as Diagnosis
from connector.streams import Selection as Selection
from connector.streams import Stream as Stream
from connector.version import __version__ as __version__
