import { useState } from 'preact/hooks';

export function TokenForm({ onToken }: { onToken: (token: string) => void }) {
  const [token, setToken] = useState('');
  return (
    <form
      class="token"
      onSubmit={(event) => {
        event.preventDefault();
        onToken(token.trim());
      }}
    >
      <label for="token">This service asks for its token</label>
      <div class="line">
        <input
          id="token"
          type="password"
          autocomplete="current-password"
          autofocus
          value={token}
          onInput={(event) => setToken(event.currentTarget.value)}
        />
        <button class="primary">Enter</button>
      </div>
    </form>
  );
}
