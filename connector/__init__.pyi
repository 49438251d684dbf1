from connector.base.errors import (
    APIConnectionError as APIConnectionError,
)
from connector.base.errors import (
    APITimeoutError as APITimeoutError,
)
from connector.base.errors import (
    AuthenticationError as AuthenticationError,
)
from connector.base.errors import (
    BadRequestError as BadRequestError,
)
from connector.base.errors import (
    BudgetError as BudgetError,
)
from connector.base.errors import (
    ConfigError as ConfigError,
)
from connector.base.errors import (
    ConnectorError as ConnectorError,
)
from connector.base.errors import (
    CutError as CutError,
)
from connector.base.errors import (
    FatalError as FatalError,
)
from connector.base.errors import (
    NotFoundError as NotFoundError,
)
from connector.base.errors import (
    OutageError as OutageError,
)
from connector.base.errors import (
    PermissionDeniedError as PermissionDeniedError,
)
from connector.base.errors import (
    QuotaError as QuotaError,
)
from connector.base.errors import (
    RateLimitError as RateLimitError,
)
from connector.base.errors import (
    RecordError as RecordError,
)
from connector.base.errors import (
    ReplyError as ReplyError,
)
from connector.base.errors import (
    RetryableError as RetryableError,
)
from connector.base.errors import (
    ServerError as ServerError,
)
from connector.base.errors import (
    StorageError as StorageError,
)
from connector.base.errors import (
    TemplateError as TemplateError,
)
from connector.base.records import Checkpoint as Checkpoint
from connector.base.records import Outcome as Outcome
from connector.base.records import Record as Record
from connector.base.records import Status as Status
from connector.base.streams import Diagnosis as Diagnosis
from connector.base.streams import Selection as Selection
from connector.base.streams import Stream as Stream
from connector.base.version import __version__ as __version__
from connector.config.config import Config as Config
from connector.connector import Connector as Connector
