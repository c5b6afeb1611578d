import { describe, expect, it } from 'vitest';
import type { StoredEvent } from '../../../src/sessions/events.js';
import type { SessionExport } from '../../../src/sessions/session.js';
import { keysOf } from '../../../src/sessions/stored/keys.js';
import { formatSegment, parseSegment } from '../../../src/sessions/stored/log.js';
import { decodeExport, encodeExport } from '../../../src/sessions/stored/exports.js';
import { decodeRecord, encodeRecord } from '../../../src/sessions/stored/record.js';
import { initialSnapshot } from '../../../src/sessions/stored/snapshot.js';

const KEY = 'sessions/s1/log/000000.jsonl';
const FAILURE = { code: 'ENGINE', message: 'broken' };

const EVENTS: StoredEvent[] = [
  { sequence: 1, at: 1, type: 'PromptSuperseded', receiptId: 'r1', supersededBy: 'r2' },
  { sequence: 2, at: 2, type: 'StateChanged', state: 'FAILED', failure: FAILURE },
];

/** What releases before this one wrote, and read. */
const LINES = [
  '{"sequence":1,"at":1,"type":"PromptSuperseded","requestId":"r1","supersededBy":"r2"}',
  '{"sequence":2,"at":2,"type":"StateChanged","state":"FAILED","error":{"code":"ENGINE","message":"broken"}}',
];

describe('the names of fields in the store', () => {
  it('are those of earlier releases in the log', () => {
    const text = new TextDecoder().decode(formatSegment(EVENTS));
    expect(text.replace(/,"check":"[^"]+"/g, '')).toBe(LINES.map((line) => `${line}\n`).join(''));
    expect(parseSegment(Buffer.from(LINES.map((line) => `${line}\n`).join('')), KEY, 0)).toEqual(EVENTS);
    expect(JSON.stringify(parseSegment(formatSegment(EVENTS), KEY, 0))).toBe(JSON.stringify(EVENTS));
  });

  it('are those of earlier releases in the record', () => {
    const request = { model: 'fake', seed: 1n, width: 64, height: 64, pace: 'REALTIME' as const, prompts: [] };
    const model = { digest: 'd', version: '1', fps: 16, framesPerBlock: 3, loras: [] };
    const entry = { prompt: 'a', mode: 'RECACHE', block: 0, frame: 0, seconds: 0, recacheMilliseconds: 0 } as const;
    const snapshot = {
      ...initialSnapshot('s1', request, model, 1),
      failure: FAILURE,
      timeline: [{ ...entry, receiptId: 'r1' }],
    };
    const record = { since: 2, id: 's1', owner: null, inputDigest: '', request, snapshot };
    const bytes = encodeRecord(record);
    expect(JSON.parse(new TextDecoder().decode(bytes))).toMatchObject({
      snapshot: { error: FAILURE, timeline: [{ requestId: 'r1' }] },
    });
    expect(decodeRecord(bytes, keysOf('s1').record).snapshot).toEqual(snapshot);
  });

  it('are those of earlier releases in an export', () => {
    const made: SessionExport = {
      ...{ range: '0-2', sessionId: 's1', state: 'FAILED', progress: 0, failure: FAILURE, createdAt: new Date(1) },
      ...{ fromChunk: 0, toChunk: 2, fromSeconds: 0, toSeconds: 1, artifacts: [] },
    };
    const bytes = encodeExport(made);
    expect(JSON.parse(new TextDecoder().decode(bytes))).toMatchObject({ error: FAILURE });
    expect(decodeExport(bytes, 'x')).toEqual(made);
  });
});
