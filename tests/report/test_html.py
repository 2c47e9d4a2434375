from danlu.report.pages import html


def test_what_stands_between_backticks_is_code_and_no_tag_gets_through() -> None:
    said = html.verdict(["try `lr=0.1`, <b>not</b> `a<b`", "as it is"])
    assert said == (
        '<div class="verdict"><p>try <code>lr=0.1</code>, &lt;b&gt;not&lt;/b&gt; <code>a&lt;b</code></p><p>as it is</p></div>'
    )
