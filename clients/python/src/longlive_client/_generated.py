# Made from schema/schema.graphql by `npm run schema`; do not edit.
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Union

from ._errors import ServiceError

__all__ = [
    "ArtifactKind",
    "BlendKind",
    "ExportFileKind",
    "ExportState",
    "ModelState",
    "Pace",
    "RecacheMode",
    "SessionState",
    "StateReason",
    "SwitchStatus",
    "SwitchWhen",
    "TransitionCurve",
    "Artifact",
    "DeletedSession",
    "Export",
    "ExportFile",
    "Failure",
    "ChunkEvent",
    "HeartbeatEvent",
    "InitSegment",
    "Lora",
    "Model",
    "ModelGuide",
    "PageInfo",
    "PlaybackAcknowledged",
    "AppliedEvent",
    "CancelledEvent",
    "MovedEvent",
    "RequestedEvent",
    "SupersededEvent",
    "QueuePlace",
    "ServiceFacts",
    "SessionFacts",
    "SessionConnection",
    "EndedEvent",
    "SessionLora",
    "SessionParent",
    "StateEvent",
    "ReceiptFacts",
    "Transition",
    "AtCapacityError",
    "ConflictError",
    "ForbiddenError",
    "InvalidInputError",
    "NotFoundError",
    "RateLimitError",
    "SessionEndedError",
    "UnavailableError",
    "SessionEvent",
]

ArtifactKind = Literal["HLS", "MP4", "POSTER", "TIMELINE"]
BlendKind = Literal["LINEAR", "SLERP"]
ExportFileKind = Literal["MP4", "TIMELINE"]
ExportState = Literal["CANCELLED", "DONE", "FAILED", "QUEUED", "RUNNING"]
ModelState = Literal["AVAILABLE", "LOADED", "LOADING"]
Pace = Literal["FASTEST", "REALTIME"]
RecacheMode = Literal["CLEAR_CACHE", "KEEP_CACHE", "RECACHE"]
SessionState = Literal["COMPLETED", "FAILED", "LIVE", "PAUSED", "QUEUED", "STARTING", "STOPPED"]
StateReason = Literal["CAPACITY", "DURATION_REACHED", "ENGINE", "IDLE", "MEDIA", "MODEL", "MODEL_END", "REQUESTED", "STORAGE", "WORKER_LOST"]
SwitchStatus = Literal["APPLIED", "CANCELLED", "DISCARDED", "PENDING", "SUPERSEDED"]
SwitchWhen = Literal["AT_BLOCK", "IMMEDIATE", "NEXT_BLOCK"]
TransitionCurve = Literal["EVEN", "SCOPE"]


@dataclass(frozen=True)
class Artifact:
    """A finished, downloadable file."""

    kind: ArtifactKind
    url: str
    bytes: float
    content_type: str
    expires_at: str


@dataclass(frozen=True)
class DeletedSession:
    """A session that no longer exists."""

    deleted_at: str


@dataclass(frozen=True)
class Export:
    """A part of a session as a video of its own."""

    id: str
    state: ExportState
    progress: float
    failure: Failure | None
    files: list[ExportFile]


@dataclass(frozen=True)
class ExportFile:
    """A file of an export."""

    kind: ExportFileKind
    url: str
    bytes: float


@dataclass(frozen=True)
class Failure:
    """What went wrong in a session."""

    code: str
    message: str


@dataclass(frozen=True)
class ChunkEvent:
    """The playable media of one block. In order, without holes, durable before it is announced."""

    cursor: str
    at: str
    index: int
    start_seconds: float
    duration_seconds: float
    byte_length: int
    keyframe: bool
    generate_milliseconds: float
    url: str | None
    data: str | None
    init: InitSegment | None
    type: ClassVar[Literal["chunk"]] = "chunk"


@dataclass(frozen=True)
class HeartbeatEvent:
    """Sent on an idle stream to show that it is alive. Not part of the log."""

    cursor: str
    at: str
    state: SessionState
    reason: StateReason | None
    failure: Failure | None
    queue: QueuePlace | None
    type: ClassVar[Literal["heartbeat"]] = "heartbeat"


@dataclass(frozen=True)
class InitSegment:
    """What a decoder needs before the first chunk; the same throughout a session."""

    codec: str
    mime_type: str
    url: str | None
    data: str | None


@dataclass(frozen=True)
class Lora:
    """An adapter that can be merged into a model."""

    name: str
    bytes: float


@dataclass(frozen=True)
class Model:
    """A model package that this server can run."""

    name: str
    title: str
    description: str
    license: str
    device: str
    precision: str
    bytes: float
    width: int
    height: int
    fps: float
    state: ModelState
    longest_seconds: float | None
    guide: ModelGuide | None
    loras: list[Lora]


@dataclass(frozen=True)
class ModelGuide:
    """What a model can draw, for whoever writes a prompt."""

    about: str
    examples: list[str]


@dataclass(frozen=True)
class PageInfo:
    """Where a page ends, and whether more follows."""

    has_next_page: bool
    end_cursor: str | None


@dataclass(frozen=True)
class PlaybackAcknowledged:
    """How far a viewer has seen was told."""

    heard: bool


@dataclass(frozen=True)
class AppliedEvent:
    """A prompt took effect. Comes before the chunk of its block."""

    cursor: str
    at: str
    receipt_id: str
    prompt: str
    mode: RecacheMode
    block: int
    frame: int
    seconds: float
    whole_seconds: float
    recache_milliseconds: float
    waited_milliseconds: float | None
    type: ClassVar[Literal["applied"]] = "applied"


@dataclass(frozen=True)
class CancelledEvent:
    """A prompt that waited will not come."""

    cursor: str
    at: str
    receipt_id: str
    type: ClassVar[Literal["cancelled"]] = "cancelled"


@dataclass(frozen=True)
class MovedEvent:
    """A prompt that waits was given another block, text or way to come. It says all of what it is now."""

    cursor: str
    at: str
    receipt_id: str
    prompt: str
    mode: RecacheMode
    when: SwitchWhen
    at_block: int | None
    expected_block: int
    type: ClassVar[Literal["moved"]] = "moved"


@dataclass(frozen=True)
class RequestedEvent:
    """A client requested a prompt switch."""

    cursor: str
    at: str
    receipt_id: str
    prompt: str
    mode: RecacheMode
    when: SwitchWhen
    at_block: int | None
    unknown_words: list[str] | None
    expected_block: int
    type: ClassVar[Literal["requested"]] = "requested"


@dataclass(frozen=True)
class SupersededEvent:
    """A later switch took this one's place before its block began."""

    cursor: str
    at: str
    receipt_id: str
    superseded_by: str
    type: ClassVar[Literal["superseded"]] = "superseded"


@dataclass(frozen=True)
class QueuePlace:
    """Where a session stands that waits for room."""

    place: int
    wait_seconds: float | None


@dataclass(frozen=True)
class ServiceFacts:
    """The server that answers. A server that does not generate video reports on all servers that do, together."""

    version: str
    accepting: bool
    detail: str | None
    heartbeat_seconds: float


@dataclass(frozen=True)
class SessionFacts:
    """One continuous generation: model, seed, size, timeline, state."""

    id: str
    title: str | None
    favourite: bool
    cursor: str
    state: SessionState
    reason: StateReason | None
    failure: Failure | None
    queue: QueuePlace | None
    queued_until: str | None
    ended: bool
    prompt: str
    seed: str
    width: int
    height: int
    fps: float
    pace: Pace
    seconds: float
    chunks: int
    max_seconds: float | None
    model_name: str
    loras: list[SessionLora]
    viewers: int
    created_at: str
    finished_at: str | None
    playlist_url: str
    init_url: str | None
    artifacts: list[Artifact]
    parent: SessionParent | None
    planned: list[ReceiptFacts]


@dataclass(frozen=True)
class SessionConnection:
    """Newest first. Pages forward only."""

    nodes: list[SessionFacts]
    page_info: PageInfo


@dataclass(frozen=True)
class EndedEvent:
    """The last event of a session: its artifacts are complete, but for those that could not be made."""

    cursor: str
    at: str
    state: SessionState
    reason: StateReason | None
    failure: Failure | None
    chunks: int
    seconds: float
    artifacts: list[Artifact]
    type: ClassVar[Literal["ended"]] = "ended"


@dataclass(frozen=True)
class SessionLora:
    """An adapter that a session is generated with."""

    name: str
    weight: float


@dataclass(frozen=True)
class SessionParent:
    """Where a fork branched off."""

    session_id: str
    chunk: int


@dataclass(frozen=True)
class StateEvent:
    """The session passed from one state to another."""

    cursor: str
    at: str
    state: SessionState
    previous: SessionState | None
    reason: StateReason | None
    failure: Failure | None
    type: ClassVar[Literal["state"]] = "state"


@dataclass(frozen=True)
class ReceiptFacts:
    """A prompt that was asked for. The outcome follows in the stream, as `PromptApplied`, `PromptSuperseded` or `PromptCancelled`."""

    id: str
    prompt: str
    unknown_words: list[str] | None
    mode: RecacheMode
    transition: Transition | None
    when: SwitchWhen
    at_block: int | None
    status: SwitchStatus
    expected_block: int
    expected_seconds: float
    requested_at: str


@dataclass(frozen=True)
class Transition:
    """A prompt that comes over several chunks."""

    chunks: int
    kind: BlendKind
    curve: TransitionCurve


class AtCapacityError(ServiceError):
    """A limit is reached for now; the message says which."""

    retry_after_seconds: float


class ConflictError(ServiceError):
    """The request conflicts with what already exists or is under way."""


class ForbiddenError(ServiceError):
    """The credential may not do this: it lacks a scope, which the message names."""


class InvalidInputError(ServiceError):
    """An argument cannot be used."""

    field: str | None


class NotFoundError(ServiceError):
    """There is no such session, artifact, export or receipt."""


class RateLimitError(ServiceError):
    """The caller, its tenant or its address has used what it may for now; the message says what and how much."""

    retry_after_seconds: float


class SessionEndedError(ServiceError):
    """The session has ended; nothing about it can change any more."""


class UnavailableError(ServiceError):
    """A part of the service is unavailable: model package, object store, engine, encoder, or this server."""


SessionEvent = Union[ChunkEvent, AppliedEvent, CancelledEvent, MovedEvent, RequestedEvent, SupersededEvent, EndedEvent, StateEvent]

EVENTS = {"FrameChunk": ChunkEvent, "Heartbeat": HeartbeatEvent, "PromptApplied": AppliedEvent, "PromptCancelled": CancelledEvent, "PromptMoved": MovedEvent, "PromptRequested": RequestedEvent, "PromptSuperseded": SupersededEvent, "SessionEnded": EndedEvent, "StateChanged": StateEvent}

ERRORS = {"AtCapacityError": AtCapacityError, "ConflictError": ConflictError, "ForbiddenError": ForbiddenError, "InvalidInputError": InvalidInputError, "NotFoundError": NotFoundError, "RateLimitError": RateLimitError, "SessionEndedError": SessionEndedError, "UnavailableError": UnavailableError}

OPERATIONS = {
    "GetModels": "query GetModels{models{...ModelFields}}fragment ModelFields on Model{name title description license device precision bytes width height fps state longestSeconds guide{about examples}loras{name bytes}}",
    "ListSessions": "query ListSessions($first:Int$after:String$search:String$favourite:Boolean){sessions(first:$first after:$after search:$search favourite:$favourite){...on SessionConnection{__typename nodes{...SessionFields}pageInfo{hasNextPage endCursor}}...Problem}}fragment SessionFields on Session{__typename id title favourite cursor state reason failure{code message}queue{place waitSeconds}queuedUntil ended prompt seed width height fps pace seconds chunks maxSeconds modelName loras{name weight}viewers createdAt finishedAt playlistUrl initUrl artifacts{...ArtifactFields}parent{sessionId chunk}}fragment ArtifactFields on Artifact{kind url bytes contentType expiresAt}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "GetService": "query GetService{service{version accepting detail heartbeatSeconds}}",
    "GetSession": "query GetSession($id:ID!){session(id:$id){...SessionFields ...Problem}}fragment SessionFields on Session{__typename id title favourite cursor state reason failure{code message}queue{place waitSeconds}queuedUntil ended prompt seed width height fps pace seconds chunks maxSeconds modelName loras{name weight}viewers createdAt finishedAt playlistUrl initUrl artifacts{...ArtifactFields}parent{sessionId chunk}}fragment ArtifactFields on Artifact{kind url bytes contentType expiresAt}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "CreateSession": "mutation CreateSession($input:CreateSessionInput!){createSession(input:$input){...SessionFields ...Problem}}fragment SessionFields on Session{__typename id title favourite cursor state reason failure{code message}queue{place waitSeconds}queuedUntil ended prompt seed width height fps pace seconds chunks maxSeconds modelName loras{name weight}viewers createdAt finishedAt playlistUrl initUrl artifacts{...ArtifactFields}parent{sessionId chunk}}fragment ArtifactFields on Artifact{kind url bytes contentType expiresAt}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "ForkSession": "mutation ForkSession($sessionId:ID!$atChunk:Int$atSeconds:Float$prompt:String$mode:RecacheMode$transition:TransitionInput$pace:Pace$maxSeconds:Float$maxWaitSeconds:Float$idempotencyKey:String){forkSession(sessionId:$sessionId atChunk:$atChunk atSeconds:$atSeconds prompt:$prompt mode:$mode transition:$transition pace:$pace maxSeconds:$maxSeconds maxWaitSeconds:$maxWaitSeconds idempotencyKey:$idempotencyKey){...SessionFields ...Problem}}fragment SessionFields on Session{__typename id title favourite cursor state reason failure{code message}queue{place waitSeconds}queuedUntil ended prompt seed width height fps pace seconds chunks maxSeconds modelName loras{name weight}viewers createdAt finishedAt playlistUrl initUrl artifacts{...ArtifactFields}parent{sessionId chunk}}fragment ArtifactFields on Artifact{kind url bytes contentType expiresAt}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "SwitchPrompt": "mutation SwitchPrompt($sessionId:ID!$prompt:String!$mode:RecacheMode$transition:TransitionInput$when:SwitchWhen$atBlock:Int$idempotencyKey:String){switchPrompt(sessionId:$sessionId prompt:$prompt mode:$mode transition:$transition when:$when atBlock:$atBlock idempotencyKey:$idempotencyKey){...on SwitchReceipt{...ReceiptFields}...Problem}}fragment ReceiptFields on SwitchReceipt{__typename id prompt unknownWords mode transition{chunks kind curve}when atBlock status expectedBlock expectedSeconds requestedAt}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "PlanPrompt": "mutation PlanPrompt($sessionId:ID!$prompt:String!$atSeconds:Float$atBlock:Int$mode:RecacheMode$transition:TransitionInput$idempotencyKey:String){planPrompt(sessionId:$sessionId prompt:$prompt atSeconds:$atSeconds atBlock:$atBlock mode:$mode transition:$transition idempotencyKey:$idempotencyKey){...on SwitchReceipt{...ReceiptFields}...Problem}}fragment ReceiptFields on SwitchReceipt{__typename id prompt unknownWords mode transition{chunks kind curve}when atBlock status expectedBlock expectedSeconds requestedAt}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "MovePrompt": "mutation MovePrompt($sessionId:ID!$receiptId:ID!$prompt:String$atSeconds:Float$atBlock:Int$mode:RecacheMode$transition:TransitionInput){movePrompt(sessionId:$sessionId receiptId:$receiptId prompt:$prompt atSeconds:$atSeconds atBlock:$atBlock mode:$mode transition:$transition){...on SwitchReceipt{...ReceiptFields}...Problem}}fragment ReceiptFields on SwitchReceipt{__typename id prompt unknownWords mode transition{chunks kind curve}when atBlock status expectedBlock expectedSeconds requestedAt}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "CancelPrompt": "mutation CancelPrompt($sessionId:ID!$receiptId:ID!){cancelPrompt(sessionId:$sessionId receiptId:$receiptId){...on SwitchReceipt{...ReceiptFields}...Problem}}fragment ReceiptFields on SwitchReceipt{__typename id prompt unknownWords mode transition{chunks kind curve}when atBlock status expectedBlock expectedSeconds requestedAt}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "GetPlanned": "query GetPlanned($id:ID!){session(id:$id){...on Session{__typename planned{...ReceiptFields}}...Problem}}fragment ReceiptFields on SwitchReceipt{__typename id prompt unknownWords mode transition{chunks kind curve}when atBlock status expectedBlock expectedSeconds requestedAt}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "PauseSession": "mutation PauseSession($id:ID!){pauseSession(sessionId:$id){...SessionFields ...Problem}}fragment SessionFields on Session{__typename id title favourite cursor state reason failure{code message}queue{place waitSeconds}queuedUntil ended prompt seed width height fps pace seconds chunks maxSeconds modelName loras{name weight}viewers createdAt finishedAt playlistUrl initUrl artifacts{...ArtifactFields}parent{sessionId chunk}}fragment ArtifactFields on Artifact{kind url bytes contentType expiresAt}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "ResumeSession": "mutation ResumeSession($id:ID!$maxWaitSeconds:Float){resumeSession(sessionId:$id maxWaitSeconds:$maxWaitSeconds){...SessionFields ...Problem}}fragment SessionFields on Session{__typename id title favourite cursor state reason failure{code message}queue{place waitSeconds}queuedUntil ended prompt seed width height fps pace seconds chunks maxSeconds modelName loras{name weight}viewers createdAt finishedAt playlistUrl initUrl artifacts{...ArtifactFields}parent{sessionId chunk}}fragment ArtifactFields on Artifact{kind url bytes contentType expiresAt}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "StopSession": "mutation StopSession($id:ID!){stopSession(sessionId:$id){...SessionFields ...Problem}}fragment SessionFields on Session{__typename id title favourite cursor state reason failure{code message}queue{place waitSeconds}queuedUntil ended prompt seed width height fps pace seconds chunks maxSeconds modelName loras{name weight}viewers createdAt finishedAt playlistUrl initUrl artifacts{...ArtifactFields}parent{sessionId chunk}}fragment ArtifactFields on Artifact{kind url bytes contentType expiresAt}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "UpdateSession": "mutation UpdateSession($id:ID!$title:String$favourite:Boolean){updateSession(sessionId:$id title:$title favourite:$favourite){...SessionFields ...Problem}}fragment SessionFields on Session{__typename id title favourite cursor state reason failure{code message}queue{place waitSeconds}queuedUntil ended prompt seed width height fps pace seconds chunks maxSeconds modelName loras{name weight}viewers createdAt finishedAt playlistUrl initUrl artifacts{...ArtifactFields}parent{sessionId chunk}}fragment ArtifactFields on Artifact{kind url bytes contentType expiresAt}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "DeleteSession": "mutation DeleteSession($id:ID!){deleteSession(sessionId:$id){...on DeletedSession{__typename deletedAt}...Problem}}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "AcknowledgePlayback": "mutation AcknowledgePlayback($sessionId:ID!$viewer:ID!$seconds:Float!$playing:Boolean$aheadSeconds:Float){acknowledgePlayback(sessionId:$sessionId viewer:$viewer seconds:$seconds playing:$playing aheadSeconds:$aheadSeconds){...on PlaybackAcknowledged{__typename heard}...Problem}}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "ExportSession": "mutation ExportSession($sessionId:ID!$fromSeconds:Float$toSeconds:Float){exportSession(sessionId:$sessionId fromSeconds:$fromSeconds toSeconds:$toSeconds){...ExportFields ...Problem}}fragment ExportFields on Export{__typename id state progress failure{code message}files{kind url bytes}}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "GetExport": "query GetExport($id:ID!){export(id:$id){...ExportFields ...Problem}}fragment ExportFields on Export{__typename id state progress failure{code message}files{kind url bytes}}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
    "SessionStream": "subscription SessionStream($id:ID!$after:Cursor$from:StreamStart$media:MediaDelivery$viewer:ID){sessionStream(sessionId:$id after:$after from:$from media:$media viewer:$viewer){...on FrameChunk{__typename cursor at index startSeconds durationSeconds byteLength keyframe generateMilliseconds url data init{codec mimeType url data}}...on PromptRequested{__typename cursor at receiptId prompt mode when atBlock unknownWords expectedBlock}...on PromptApplied{__typename cursor at receiptId prompt mode block frame seconds wholeSeconds recacheMilliseconds waitedMilliseconds}...on PromptSuperseded{__typename cursor at receiptId supersededBy}...on PromptMoved{__typename cursor at receiptId prompt mode when atBlock expectedBlock}...on PromptCancelled{__typename cursor at receiptId}...on StateChanged{__typename cursor at state previous reason failure{code message}}...on Heartbeat{__typename cursor at state reason failure{code message}queue{place waitSeconds}}...on SessionEnded{__typename cursor at state reason failure{code message}chunks seconds artifacts{...ArtifactFields}}...Problem}}fragment ArtifactFields on Artifact{kind url bytes contentType expiresAt}fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}",
}
