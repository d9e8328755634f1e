// Shows what needs passkeys where the browser has them, and says when one was not used.
(() => {
  document.addEventListener("DOMContentLoaded", () => {
    const numbers = /^[\d.]+$|:/.test(location.hostname); // a passkey belongs to a name, never to an IP address
    const able = window.isSecureContext && Boolean(window.PublicKeyCredential) && !numbers;
    for (const element of document.querySelectorAll("[data-passkeys]")) element.hidden = !able;
    for (const element of document.querySelectorAll("[data-no-passkeys]")) element.hidden = able;
  });
  document.addEventListener("allauth.error", (event) => {
    event.preventDefault();
    for (const element of document.querySelectorAll("[data-passkey-failed]")) element.hidden = false;
  });
})();
