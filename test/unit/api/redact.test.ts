import { describe, expect, it } from 'vitest';
import { withoutPaths } from '../../../src/api/index.js';

describe('an error as a client may read it', () => {
  it.each([
    ['/srv/models/pocket/dit.safetensors: the file is cut off', 'dit.safetensors: the file is cut off'],
    ['cannot read "/a/b c".', 'cannot read "b c".'],
    [
      "The model cache /var/cache/longlive cannot be used (EACCES: permission denied, mkdir '/var/cache/longlive')",
      "The model cache longlive cannot be used (EACCES: permission denied, mkdir 'longlive')",
    ],
    ['at file:///opt/app/dist/x.js:3', 'at x.js:3'],
    ['./models/x, ../y/z and ~/w', 'x, z and w'],
    ['in /data/models/', 'in models'],
  ])('names files without where they lie: %s', (message, shown) => expect(withoutPaths(message)).toBe(shown));

  it.each([
    ['sessions/abc/session.json is damaged', 'The record of session abc is damaged'],
    ['sessions/a-b_c/log/000003.jsonl, line 4: is damaged', 'The log of session a-b_c, line 4: is damaged'],
    ['in sessions/abc/checkpoints/000012.safetensors.', 'in a checkpoint of session abc.'],
    [
      '(see sessions/abc/chunks/000001.m4s and sessions/abc/init.mp4)',
      '(see a chunk of session abc and a file of session abc)',
    ],
    ['The store is full (sessions/abc/video.mp4)', 'The store is full'],
    ['The store is full (sessions/) now (unfinished/abc)', 'The store is full now'],
    ['by-date/8234567890123-abc has disappeared', "An entry of the store's index has disappeared"],
    ['The store is full (servers/a1-b2.json)', 'The store is full'],
    ['servers/a1-b2.json is gone', "An entry of the store's index is gone"],
    ['deployment/secret is empty', "An entry of the store's index is empty"],
  ])('names what is stored by what it is: %s', (message, shown) => expect(withoutPaths(message)).toBe(shown));

  it.each([
    'fetched from https://models.example.com/longlive/: 404',
    'sessions, servers and deleting',
    'https://video.example/sessions/abc/index.m3u8',
    '832/480 at 24 frames/s, and/or less',
    's3://bucket/prefix: access denied',
  ])('keeps what is no path of the server: %s', (message) => expect(withoutPaths(message)).toBe(message));
});
