/** Strokes of 24 by 24. */
const PATHS = {
  play: 'M8 5.5v13l11-6.5z',
  pause: 'M8 5v14M16 5v14',
  full: 'M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5',
  caption: 'M3 6h18v12H3zM7 13h5M15 13h2',
  pip: 'M3 5h18v14H3zM12.500 11.500h6v5h-6z',
  link: 'M9 15l6-6M10.500 6.500l2-2a4.200 4.200 0 016 6l-2 2M13.500 17.500l-2 2a4.200 4.200 0 01-6-6l2-2',
} as const;

export function Icon({ name, large }: { name: keyof typeof PATHS; large?: boolean }) {
  const side = large ? 30 : 20;
  return (
    <svg viewBox="0 0 24 24" width={side} height={side} aria-hidden="true">
      <path
        d={PATHS[name]}
        fill={name === 'play' ? 'currentColor' : 'none'}
        stroke="currentColor"
        stroke-width="2"
        stroke-linecap="round"
        stroke-linejoin="round"
      />
    </svg>
  );
}
