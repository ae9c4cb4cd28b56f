interface ZoomProps {
  of: string;
  by: (factor: number) => void;
  whole: () => void;
}

export function ZoomButtons({ of, by, whole }: ZoomProps) {
  return (
    <div class="buttons zoom" role="group" aria-label={`Zoom of the ${of}`}>
      <button type="button" aria-label="Zoom in" onClick={() => by(1.5)}>
        +
      </button>
      <button type="button" aria-label="Zoom out" onClick={() => by(1 / 1.5)}>
        −
      </button>
      <button type="button" onClick={whole}>
        Fit
      </button>
    </div>
  );
}
