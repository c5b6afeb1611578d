import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

interface Props {
  title: string;
  children: ComponentChildren;
  yes: string;
  onYes: () => void;
  onNo: () => void;
}

/** Says what would be done, before it is done. */
export function Confirm({ title, children, yes, onYes, onNo }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} class="confirm" aria-labelledby="confirm-title" onClose={onNo}>
      <h2 id="confirm-title">{title}</h2>
      {children}
      <div class="buttons">
        <button onClick={onNo}>Cancel</button>
        <button class="primary" autofocus onClick={onYes}>
          {yes}
        </button>
      </div>
    </dialog>
  );
}
