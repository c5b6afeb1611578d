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
    'fetched from https://models.example.com/longlive/: 404',
    'sessions/abc/session.json is damaged',
    '832/480 at 24 frames/s, and/or less',
    's3://bucket/prefix: access denied',
  ])('keeps what is no path of the server: %s', (message) => expect(withoutPaths(message)).toBe(message));
});
