// Hands allauth's script the forms of passkeys, shows them where the browser has any, and says when one was not used.
(() => {
  document.addEventListener("DOMContentLoaded", () => {
    const numbers = /^[\d.]+$|:/.test(location.hostname); // a passkey belongs to a name, never to an IP address
    const able = window.isSecureContext && Boolean(window.PublicKeyCredential) && !numbers;
    for (const element of document.querySelectorAll("[data-no-passkeys]")) element.hidden = able;
    for (const form of document.querySelectorAll("form[data-passkey]")) {
      form.hidden = !able;
      const button = form.querySelector("[data-use]").id;
      const { credential, passwordless } = form.elements;
      const ids = { login: button, authenticate: button, add: button, credential: credential.id };
      if (passwordless) ids.passwordless = passwordless.id;
      window.allauth.webauthn.forms[form.dataset.passkey]({ ids: { ...ids, data: "js_data" } });
    }
  });
  document.addEventListener("allauth.error", (event) => {
    event.preventDefault();
    for (const element of document.querySelectorAll("[data-passkey-failed]")) element.hidden = false;
  });
})();
