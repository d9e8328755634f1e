// Reading aloud, where the device has a voice of its own. A voice from a server is never used: the story would leave.
"use strict";
(() => {
  const speech = window.speechSynthesis;

  function voiceFor(language) {
    const all = speech ? speech.getVoices() : [];
    const local = all.filter((voice) => voice.localService && voice.lang.toLowerCase().startsWith(language));
    return local.find((voice) => voice.default) || local[0] || null;
  }

  function whenVoicesCome(look) {
    look();
    if (speech && speech.addEventListener) speech.addEventListener("voiceschanged", look);
  }

  function offerVoice(form) {
    const browser = form.querySelector("input[name=read_by][value=browser]");
    const adult = form.querySelector("input[name=read_by][value=adult]");
    const look = () => {
      const language = form.querySelector("input[name=language]:checked");
      const none = Boolean(language) && !voiceFor(language.value);
      browser.closest("label").hidden = none;
      browser.disabled = none;
      form.querySelector("[data-no-voice]").hidden = !none;
      if (none && browser.checked) adult.checked = true;
    };
    form.addEventListener("change", look);
    whenVoicesCome(look);
  }

  function readAloud(controls) {
    const button = controls.querySelector("button");
    const story = document.querySelector(".story");
    const words = { read: button.textContent, stop: button.dataset.stop };
    let reading = 0; // counts: the end of a reading that was stopped is nobody's end
    let aloud = false;

    function show(on) {
      aloud = on;
      button.textContent = on ? words.stop : words.read;
    }

    function stop() {
      reading += 1;
      speech.cancel();
      show(false);
    }

    function read() {
      stop();
      const mine = reading;
      const paragraphs = [...story.querySelectorAll("p")];
      const voice = voiceFor(story.lang);
      show(true);
      paragraphs.forEach((paragraph, index) => {
        const said = new SpeechSynthesisUtterance(paragraph.textContent);
        said.voice = voice;
        said.lang = voice.lang;
        said.rate = 0.9; // children follow a slow voice better
        if (index === paragraphs.length - 1) said.onend = () => { if (mine === reading) show(false); };
        said.onerror = () => { if (mine === reading) stop(); };
        speech.speak(said);
      });
    }

    button.addEventListener("click", () => (aloud ? stop() : read()));
    window.addEventListener("pagehide", () => speech && speech.cancel());
    whenVoicesCome(() => {
      controls.hidden = !voiceFor(story.lang);
      document.querySelector("[data-no-voice]").hidden = !controls.hidden;
    });
  }

  const form = document.querySelector("[data-start]");
  const controls = document.querySelector("[data-read-aloud]");
  if (form) offerVoice(form);
  if (controls) readAloud(controls);
})();
