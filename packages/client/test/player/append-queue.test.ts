import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AppendQueue, type BufferLike } from '../../src/player/append-queue.js';

/** A `SourceBuffer` that takes its time, throws when it is used before it is done, and refuses or fails when told to. */
class FakeBuffer extends EventTarget implements BufferLike {
  updating = false;
  readonly did: string[] = [];
  listeners = 0;

  override addEventListener(...given: Parameters<EventTarget['addEventListener']>): void {
    this.listeners++;
    super.addEventListener(...given);
  }

  override removeEventListener(...given: Parameters<EventTarget['removeEventListener']>): void {
    this.listeners--;
    super.removeEventListener(...given);
  }

  appendBuffer(bytes: BufferSource): void {
    const [name, fate] = bytes as Uint8Array;
    if (fate === 1) throw new DOMException('full', 'QuotaExceededError');
    this.update(`append ${name}`, fate === 2);
  }

  remove(start: number, end: number): void {
    this.update(`remove ${start} ${end}`, false);
  }

  private update(what: string, fails: boolean): void {
    if (this.updating) throw new DOMException('busy', 'InvalidStateError');
    this.updating = true;
    setTimeout(() => {
      this.updating = false;
      if (!fails) this.did.push(what);
      if (fails) this.dispatchEvent(new Event('error'));
      this.dispatchEvent(new Event('updateend'));
    }, 0);
  }
}

const bytes = (name: number, fate = 0) => new Uint8Array([name, fate]);

test('changes happen one after the other, in order, whatever fails between them; listeners stay two', async () => {
  const change = fc.record({ kind: fc.constantFrom('append', 'remove', 'work'), fate: fc.nat(2) });
  await fc.assert(
    fc.asyncProperty(fc.array(change, { maxLength: 20 }), async (changes) => {
      const buffer = new FakeBuffer();
      const queue = new AppendQueue(buffer);
      const done = await Promise.allSettled(
        changes.map(({ kind, fate }, place) => {
          if (kind === 'append') return queue.append(bytes(place, fate));
          if (kind === 'remove') return queue.remove(place, place + 1);
          return queue.change(() => void buffer.did.push(`work ${place}`));
        }),
      );
      const fails = ({ kind, fate }: { kind: string; fate: number }) => kind === 'append' && fate > 0;
      expect(done.map(({ status }) => status)).toEqual(changes.map((one) => (fails(one) ? 'rejected' : 'fulfilled')));
      const names = changes.flatMap((one, place) => {
        if (fails(one)) return [];
        return [one.kind === 'remove' ? `remove ${place} ${place + 1}` : `${one.kind} ${place}`];
      });
      expect(buffer.did).toEqual(names);
      expect(buffer.listeners).toBe(2);
    }),
    { numRuns: 50 },
  );
});

test('it tells want of room from what cannot be decoded, and takes the same bytes again', async () => {
  const queue = new AppendQueue(new FakeBuffer());
  await expect(queue.append(bytes(1, 1))).rejects.toMatchObject({ name: 'QuotaExceededError' });
  await expect(queue.append(bytes(1, 2))).rejects.toMatchObject({ code: 'DECODE' });
  await expect(queue.append(bytes(1))).resolves.toBeUndefined();
});

test('closing ends what is under way, what waits and what comes, and leaves no listener', async () => {
  const buffer = new FakeBuffer();
  const queue = new AppendQueue(buffer);
  const all = [queue.append(bytes(1)), queue.append(bytes(2))];
  await Promise.resolve();
  queue.close(new Error('over'));
  await expect(Promise.allSettled([...all, queue.remove(0, 1)])).resolves.toMatchObject(
    Array.from({ length: 3 }, () => ({ status: 'rejected', reason: { message: 'over' } })),
  );
  expect(buffer.listeners).toBe(0);
});
