import { createHash, createHmac, randomBytes } from 'node:crypto';

const ID = /^[a-z0-9]{26}$/;
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';

/** Whether a session could have this id: nothing else is looked for in the store. */
export function isSessionId(text: string): boolean {
  return ID.test(text);
}

export function randomSessionId(): string {
  return encode(randomBytes(26));
}

/**
 * The key decides the id, so that whichever server a retry reaches, it finds the same session; without the deployment's
 * secret nobody can tell it from the key. Keys of one caller have nothing to do with those of another.
 */
export function sessionIdOfKey(secret: string, idempotencyKey: string, caller = ''): string {
  return encode(
    createHmac('sha256', secret)
      .update(JSON.stringify([caller, idempotencyKey]))
      .digest(),
  );
}

/** What releases before that secret made of a key: such a session is still found, and none is made with it any more. */
export function sessionIdOfOldKey(idempotencyKey: string): string {
  return encode(createHash('sha256').update(`session:${idempotencyKey}`).digest());
}

/** 130 bits in Crockford's alphabet. */
function encode(bytes: Uint8Array): string {
  return Array.from(bytes.subarray(0, 26), (byte) => ALPHABET[byte & 31]).join('');
}
