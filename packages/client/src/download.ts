import { ConnectionError, RequestError, ServiceError } from './errors.js';
import {
  ExportSession,
  type ExportFieldsFragment,
  GetExport,
  type SessionFieldsFragment,
} from './generated/operations.js';
import { unwrap } from './results.js';
import { wait } from './time.js';
import type { Wire } from './wire/wire.js';

export interface DownloadOptions {
  /** A part of the session, cut at chunks. */
  fromSeconds?: number;
  toSeconds?: number;
  /** From 0 to 1, while a part is being made. */
  onProgress?: (progress: number) => void;
  signal?: AbortSignal;
}

const POLL_MS = 300;

/** The URL of the MP4: the session's own when it has ended and all of it is wanted, else an export of what there is. */
export async function videoUrl(
  wire: Wire,
  facts: Pick<SessionFieldsFragment, 'id' | 'ended' | 'artifacts'>,
  options: DownloadOptions,
): Promise<string> {
  const { fromSeconds, toSeconds } = options;
  const whole = fromSeconds === undefined && toSeconds === undefined;
  const file = whole && facts.ended ? facts.artifacts.find(({ kind }) => kind === 'MP4') : undefined;
  return (
    file?.url ??
    exported(wire, { sessionId: facts.id, fromSeconds: fromSeconds ?? null, toSeconds: toSeconds ?? null }, options)
  );
}

async function exported(
  wire: Wire,
  part: { sessionId: string; fromSeconds: number | null; toSeconds: number | null },
  { onProgress, signal }: DownloadOptions,
): Promise<string> {
  let made: ExportFieldsFragment = unwrap((await wire.request(ExportSession, part, signal)).exportSession);
  while (made.state === 'QUEUED' || made.state === 'RUNNING') {
    onProgress?.(made.progress);
    await wait(POLL_MS, signal);
    made = unwrap((await wire.request(GetExport, { id: made.id }, signal)).export);
  }
  if (made.failure) throw new ServiceError(made.failure.code, made.failure.message);
  const file = made.files.find(({ kind }) => kind === 'MP4');
  if (!file) throw new RequestError('The export was cancelled. Download it again.');
  onProgress?.(1);
  return file.url;
}

/** Lets a browser save the file, by the name. */
export function saveAs(url: string, name: string): void {
  if (typeof document === 'undefined')
    throw new ConnectionError('Only a page can save a file. Write what download() gives.');
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
}
