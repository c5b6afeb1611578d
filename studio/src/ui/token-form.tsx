import { useEffect, useRef, useState } from 'preact/hooks';
import { gate } from '../lib/live';
import { useStore } from '../lib/store';

/** Over the page, which stays as it is: whoever enters the token goes on where they were. */
export function TokenForm() {
  const { asking, refused } = useStore(gate.store);
  const [token, setToken] = useState('');
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (asking) dialog.current?.showModal();
    else dialog.current?.close();
    setToken('');
  }, [asking]);
  return (
    <dialog class="token" ref={dialog} aria-labelledby="token-title" onCancel={(event) => event.preventDefault()}>
      {asking && (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            gate.enter(token.trim());
          }}
        >
          <label for="token" id="token-title">
            This service asks for its token
          </label>
          <div class="line">
            <input
              id="token"
              type="password"
              autocomplete="current-password"
              autofocus
              value={token}
              aria-describedby={refused ? 'token-problem' : undefined}
              onInput={(event) => setToken(event.currentTarget.value)}
            />
            <button class="primary">Enter</button>
          </div>
          {refused && (
            <p class="problem" role="alert" id="token-problem">
              The service does not take the token that this page has. Enter another one.
            </p>
          )}
        </form>
      )}
    </dialog>
  );
}
