for (const movie of document.querySelectorAll(".movie")) {
  const frames = [...movie.querySelectorAll(".frame")];
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", min: 0, max: frames.length - 1, value: frames.length - 1 });
  slider.setAttribute("aria-label", "Moment of the trajectory");
  const button = document.createElement("button");
  button.type = "button";
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  };
  const show = (index) => {
    slider.value = index;
    frames.forEach((frame, i) => frame.classList.toggle("shown", i === index));
    slider.setAttribute("aria-valuetext", frames[index].innerText.trim());
  };
  const next = () => {
    const index = Number(slider.value) + 1;
    show(index);
    if (index === frames.length - 1) stop();
  };
  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    if (Number(slider.value) === frames.length - 1) show(0);
    button.textContent = "Pause";
    timer = setInterval(next, 180);
  });
  slider.addEventListener("input", () => {
    stop();
    show(Number(slider.value));
  });
  const move = () => {
    stop();
    button.hidden = still.matches;
  };
  still.addEventListener("change", move);
  const controls = document.createElement("div");
  controls.className = "controls";
  controls.append(button, slider);
  movie.prepend(controls);
  movie.classList.add("player");
  move();
  show(frames.length - 1);
}
