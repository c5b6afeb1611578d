/** Strokes of 24 by 24. */
const PATHS = {
  play: 'M8 5.5v13l11-6.5z',
  pause: 'M8 5v14M16 5v14',
  full: 'M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5',
  caption: 'M3 6h18v12H3zM7 13h5M15 13h2',
  pip: 'M3 5h18v14H3zM12.500 11.500h6v5h-6z',
  link: 'M9 15l6-6M10.500 6.500l2-2a4.200 4.200 0 016 6l-2 2M13.500 17.500l-2 2a4.200 4.200 0 01-6-6l2-2',
  star: 'M12 3.500l2.600 5.300 5.900.900-4.300 4.100 1 5.800L12 16.900l-5.200 2.700 1-5.800-4.300-4.100 5.900-.900z',
} as const;

interface Props {
  name: keyof typeof PATHS;
  large?: boolean;
  filled?: boolean;
}

export function Icon({ name, large, filled = name === 'play' }: Props) {
  const side = large ? 30 : 20;
  return (
    <svg viewBox="0 0 24 24" width={side} height={side} aria-hidden="true">
      <path
        d={PATHS[name]}
        fill={filled ? 'currentColor' : 'none'}
        stroke="currentColor"
        stroke-width="2"
        stroke-linecap="round"
        stroke-linejoin="round"
      />
    </svg>
  );
}
