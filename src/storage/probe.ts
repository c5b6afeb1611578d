/** Whether a store does what sessions rely on, tried on an object of its own. */
import { randomUUID } from 'node:crypto';
import { type ObjectStore, type PutOptions, StoreError } from '../sessions/ports.js';
import { NO_CONDITIONAL_WRITES, NO_DELETIONS, NO_RANGES } from './requirements.js';

/** Rejects with a StoreError: UNUSABLE when the store takes no notice of conditions or ranges, or deletes nothing. Leaves nothing behind that can be deleted. */
export async function probe(store: ObjectStore): Promise<void> {
  // Where sessions lie, so that whoever may serve sessions may do this.
  const key = `sessions/probe-${randomUUID()}`;
  const body = Buffer.from('Written to test the store; may be deleted.\n');
  const { etag } = await store.put(key, body, { ifNoneMatch: '*' });
  try {
    await mustConflict(store, key, body, { ifNoneMatch: '*' });
    const replaced = await store.put(key, body, { ifMatch: etag });
    if (replaced.etag !== etag) await mustConflict(store, key, body, { ifMatch: etag });
    else await mustConflict(store, key, body, { ifMatch: '"00000000000000000000000000000000"' });
    await mustSendParts(store, key);
  } catch (error) {
    await store.delete(key).catch(() => undefined);
    throw error;
  }
  await mustDelete(store, key);
}

async function mustSendParts(store: ObjectStore, key: string): Promise<void> {
  const { body } = await store.get(key, { start: 2, end: 4 });
  let bytes = 0;
  for await (const part of body) bytes += part.length;
  if (bytes !== 3) throw new StoreError('UNUSABLE', `${key}: ${NO_RANGES}`);
}

/** What only takes too long may be there later. */
async function mustDelete(store: ObjectStore, key: string): Promise<void> {
  try {
    await store.delete(key);
  } catch (error) {
    if (error instanceof StoreError && error.code === 'UNREACHABLE') return;
    throw new StoreError('UNUSABLE', `${key}: ${NO_DELETIONS}`, { cause: error });
  }
}

async function mustConflict(store: ObjectStore, key: string, body: Uint8Array, condition: PutOptions): Promise<void> {
  try {
    await store.put(key, body, condition);
  } catch (error) {
    if (error instanceof StoreError && error.code === 'CONFLICT') return;
    throw error;
  }
  throw new StoreError('UNUSABLE', `${key}: ${NO_CONDITIONAL_WRITES}`);
}
