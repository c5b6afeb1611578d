/**
 * An async generator whose `return()` takes effect at once. A plain one queues `return()` behind the `next()` it waits
 * in, so that a subscriber that left an idle session would be noticed only at its next event.
 */
export function cancellable<T>(
  start: (signal: AbortSignal) => AsyncGenerator<T, void, undefined>,
): AsyncGenerator<T, void, undefined> {
  const controller = new AbortController();
  const source = start(controller.signal);
  const generator = {
    next: () => source.next(),
    return: () => {
      controller.abort(LEFT);
      return source.return();
    },
    throw: (error: unknown) => {
      controller.abort(LEFT);
      return source.throw(error);
    },
    [Symbol.asyncIterator]: () => generator,
  };
  return generator;
}

/** One for all: an AbortController makes an error with a stack when it is given none. */
const LEFT = new Error('the subscriber left');
