/** Waiting for a session that stands in the line until it has room. */
import { toError } from './errors.js';
import { AtCapacityError } from './generated/errors.js';
import type { Session } from './session.js';

/** Where the service has no line, or a full one, nothing but when it is asked again is known. */
export interface RoomWait {
  /** Until its turn, about; or until it is asked for again. Null while nothing can be said. */
  readonly seconds: number | null;
  /** In the line; 1 is next. */
  readonly place: number | null;
}

const RETRY_SECONDS = 10;

/** Resolves with the session when it has room. Rejects with `AtCapacityError` when it has waited in vain. */
export function admitted(
  session: Session,
  onWait: ((wait: RoomWait) => void) | undefined,
  signal: AbortSignal | undefined,
): Promise<Session> {
  return new Promise((resolve, reject) => {
    let told = '';
    const tell = (wait: RoomWait): void => {
      if (JSON.stringify(wait) === told) return;
      told = JSON.stringify(wait);
      onWait?.(wait);
    };
    const look = (): void => {
      const { state } = session;
      if (signal?.aborted)
        return (void session.stop().catch(() => undefined), settle(() => reject(toError(signal.reason))));
      switch (state.status) {
        case 'queued':
          return tell({ seconds: state.waitSeconds, place: state.place });
        case 'connecting':
        case 'reconnecting':
          return;
        case 'lost':
          return settle(() => reject(state.error));
        default:
          return settle(() => (gaveUp(session) ? reject(noRoom()) : resolve(session)));
      }
    };
    const over = new AbortController();
    const settle = (end: () => void): void => {
      over.abort();
      end();
    };
    look();
    if (over.signal.aborted) return;
    const leave = session.watch(look);
    over.signal.addEventListener('abort', leave);
    signal?.addEventListener('abort', look, { signal: over.signal });
  });
}

const gaveUp = ({ state }: Session): boolean =>
  (state.status === 'ended' || state.status === 'paused') && state.reason === 'CAPACITY';

const noRoom = (): AtCapacityError =>
  new AtCapacityError({
    code: 'AT_CAPACITY',
    message: 'No device had room for the session in time. Try again later.',
    retryAfterSeconds: RETRY_SECONDS,
  });
